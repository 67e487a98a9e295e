// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// Keys, and the overlay that explains them.

const PAGES = {
  'Prompts': [['Left click', 'part of the object'], ['Right click', 'not part of it'], ['Q', 'click'], ['B', 'box, in one slice'],
    ['D', 'brush'], ['L', 'lasso'], [', .', 'brush smaller, larger'], ['Esc', 'give up a stroke']],
  'Objects': [['N', 'new object'], ['O', 'next object'], ['F2', 'rename it'], ['Ctrl Z', 'undo'], ['Ctrl Shift Z', 'redo'],
    ['Ctrl S', 'save the masks']],
  'View': [['Wheel, ↑ ↓', 'slices'], ['Ctrl wheel, + −', 'zoom'], ['Left drag', 'move (with B, D, L: hold Shift or Space)'],
    ['Right drag', 'brightness (with B, D, L: hold Shift)'], ['1 2 3 4', 'one view alone, and back'], ['R', 'whole scan again']],
  'Looks': [['H', 'hide or show the masks'], ['[ ]', 'masks fainter, stronger'], ['W', 'next brightness'], ['?', 'this page']],
};

export function fillHelp(dialog) {
  const parts = Object.entries(PAGES).map(([title, rows]) => `<section><h3>${title}</h3><dl>${rows.map(([key, does]) => `<dt>${key.split(' ').map((k) => (/^(Left|Right|click|drag|wheel|Wheel,)$/.test(k) ? k : `<kbd>${k}</kbd>`)).join(' ')}</dt><dd>${does}</dd>`).join('')}</dl></section>`);
  dialog.innerHTML = `<h2>Keys and mouse <button class="icon" aria-label="Close" autofocus>×</button></h2><div class="keys">${parts.join('')}</div>`;
  dialog.querySelector('button').onclick = () => dialog.close();
  dialog.onclick = (e) => { if (e.target === dialog) dialog.close(); };
}

// actions: a function for each name below.
export function listen(actions, hands) {
  const plain = {
    q: () => actions.tool('click'), b: () => actions.tool('box'), d: () => actions.tool('brush'), l: () => actions.tool('lasso'),
    ',': () => actions.brush(1 / 1.25), '.': () => actions.brush(1.25), escape: () => hands.cancel(),
    n: actions.add, o: actions.next, f2: actions.rename,
    arrowup: () => actions.scroll(1), arrowdown: () => actions.scroll(-1), pageup: () => actions.scroll(10), pagedown: () => actions.scroll(-10),
    '+': () => actions.zoom(1.25), '=': () => actions.zoom(1.25), '-': () => actions.zoom(0.8),
    1: () => actions.single('axial'), 2: () => actions.single('sagittal'), 3: () => actions.single('coronal'), 4: () => actions.single('solid'),
    r: actions.reset, h: actions.hide, '[': () => actions.opacity(-0.1), ']': () => actions.opacity(0.1), w: actions.window, '?': actions.help,
  };
  addEventListener('keydown', (e) => {
    if (document.querySelector('dialog[open]')) return;
    const typing = e.target.matches('input:not([type=range]):not([type=checkbox])');
    const key = e.key.toLowerCase(), command = e.ctrlKey || e.metaKey;
    if (command && !typing && (key === 'z' || key === 'y')) {
      e.preventDefault();
      if (key === 'y' || e.shiftKey) actions.redo(); else actions.undo();
    } else if (command && key === 's') { e.preventDefault(); actions.save(); }
    else if (command || e.altKey || typing) return;
    else if (key === ' ') { e.preventDefault(); hands.space = true; }
    else if (plain[key]) { e.preventDefault(); plain[key](); }
  });
  addEventListener('keyup', (e) => { if (e.key === ' ') hands.space = false; });
  addEventListener('blur', () => { hands.space = false; });
}
