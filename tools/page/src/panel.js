// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// The column at the right: objects, prompts of the current one, how masks and scan look.

import { colour } from './view.js';

const $ = (id) => document.getElementById(id);
const KINDS = { point: 'Click', box: 'Box', brush: 'Brush', lasso: 'Lasso', mask: 'Mask file' };

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const amount = (ml) => (ml === 0 ? 'empty' : `${ml >= 100 ? ml.toFixed(0) : ml >= 1 ? ml.toFixed(1) : ml.toPrecision(2)} mL`);

// act: select(name), rename(name, to), remove(name)
export function showObjects(objects, current, act) {
  $('objects').replaceChildren(...objects.map(({ name, number, ml }) => {
    const row = element('li', { title: name === current ? '' : `Go on with ${name}` });
    row.setAttribute('aria-current', name === current);
    const swatch = element('span', { className: 'swatch' });
    swatch.style.background = `rgb(${colour(number)})`;
    const input = element('input', { value: name, maxLength: 60, spellcheck: false, title: 'Name' });
    input.setAttribute('aria-label', 'Name of the object');
    if (name !== current) input.tabIndex = -1;
    input.onchange = () => act.rename(name, input.value.trim());
    input.onkeydown = (e) => { if (e.key === 'Enter') input.blur(); if (e.key === 'Escape') { input.value = name; input.blur(); } };
    const remove = element('button', { className: 'bare', textContent: '×', title: `Remove ${name}` });
    remove.setAttribute('aria-label', `Remove ${name}`);
    remove.onclick = (e) => { e.stopPropagation(); act.remove(name); };
    row.onclick = () => { if (name !== current) act.select(name); };
    row.append(swatch, input, element('span', { className: 'amount', textContent: amount(ml) }), remove);
    return row;
  }));
}

// act: goTo(prompt), unprompt(id)
export function showPrompts(prompts, act) {
  const rows = prompts.map((prompt, i) => {
    const row = element('li');
    const told = element('span', { textContent: `${KINDS[prompt.kind] ?? prompt.kind} ${i + 1}`, title: 'Show it' });
    told.onclick = () => act.goTo(prompt);
    const remove = element('button', { className: 'bare', textContent: '×', title: 'Take this prompt back' });
    remove.setAttribute('aria-label', `Take back prompt ${i + 1}`);
    remove.onclick = () => act.unprompt(prompt.id);
    row.append(element('span', { className: `sign ${prompt.include ? 'in' : 'out'}`, textContent: prompt.include ? '+' : '−' }), told, remove);
    return row;
  });
  if (!rows.length) rows.push(element('p', { className: 'hint', textContent: 'None yet: click on the object in one of the planes.' }));
  $('prompts').replaceChildren(...rows);
  $('prompts').scrollTop = $('prompts').scrollHeight;
}

export function showWindows(windows, [low, high], choose) {
  const is = (w) => Math.abs(w.low - low) + Math.abs(w.high - high) < 1e-3 * (high - low);
  $('windows').replaceChildren(...windows.map((w) => {
    const button = element('button', { textContent: w.name, onclick: () => choose(w) });
    button.setAttribute('aria-pressed', is(w));
    return button;
  }));
  const shown = (n) => Number(n.toPrecision(4)).toString();
  $('window-now').textContent = `Black up to ${shown(low)}, white from ${shown(high)}. Drag with the right button to change it.`;
}
