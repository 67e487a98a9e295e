// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// The page: a scan is opened, clicked in, and its masks are saved. The server computes; this shows and asks.

import * as api from './api.js';
import { Hands } from './hands.js';
import { fillHelp, listen } from './keys.js';
import { Marks } from './marks.js';
import { element, showObjects, showPrompts, showWindows } from './panel.js';
import { View } from './view.js';

const $ = (id) => document.getElementById(id);
const TOOLS = {
  click: ['Click', 'Q', '<path d="M12 3v4M12 17v4M3 12h4M17 12h4"/><circle cx="12" cy="12" r="2.5"/>', 'Left click: part of the object. Right click: not part of it.'],
  box: ['Box', 'B', '<path d="M5 5h14v14H5z"/>', 'Drag a box around the object in this slice. Right button: where it is not.'],
  brush: ['Brush', 'D', '<path d="M20 4 10 14m-2 1c-2 0-2 3-4 4 3 2 7 0 6-3z"/>', 'Paint a line inside the object. Right button: where it is not.'],
  lasso: ['Lasso', 'L', '<path d="M12 5c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5zM8 15c-1 3 1 4 0 6"/>', 'Draw around the object in this slice. Right button: where it is not.'],
};
const STEPS = {
  undo: ['Undo', 'Ctrl Z', '<path d="M8 5 4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3"/>'],
  redo: ['Redo', 'Ctrl Shift Z', '<path d="m16 5 4 4-4 4m4-4H10a6 6 0 0 0 0 12h3"/>'],
};
const WAIT = 250;
const HEARTBEAT = 10_000;

let scan = null, meta = null, objects = [], current = null, queue = Promise.resolve(), waiting = 0, first = true;
const view = new View($('scene'));
const marks = new Marks($('marks'), view);
const hands = new Hands($('marks'), view, marks, { prompt, hover: tellPosition, windowed: tellWindow });

// ---- what is said to the person

function say(text) { $('status').textContent = text; }

function hint() { say(scan ? TOOLS[hands.tool][3] : ''); }

function fail(error) {
  console.warn(error);
  const sentence = error.message || String(error);
  const told = element('div', { className: 'error' }, element('p', { textContent: sentence[0].toUpperCase() + sentence.slice(1) }));
  const close = element('button', { className: 'bare', textContent: '×', onclick: () => told.remove() });
  close.setAttribute('aria-label', 'Close');
  told.append(close);
  $('errors').replaceChildren(...[...$('errors').children].slice(-1), told);
}

function forgive() { $('errors').replaceChildren(); }

// share: of the work that is done, or null where nobody knows.
function progress(text, share = null) {
  $('progress').hidden = false;
  $('progress').classList.toggle('measured', share !== null);
  $('progress').firstElementChild.style.width = share === null ? '' : `${Math.round(100 * share)}%`;
  say(share === null ? text : `${text} ${Math.round(100 * share)} %`);
}

function done() { $('progress').hidden = true; hint(); }

// ---- opening

async function open(make) {
  forgive();
  closeMenus();
  hands.enabled = false;
  try {
    const { scan: opened } = await api.open();
    try {
      const what = await make(opened);
      let seen = await read(opened, what);
      if (seen.stage === 'choose') {
        const series = await chooseSeries(seen.choices);
        if (series === null) { api.close(opened); done(); hands.enabled = Boolean(scan); return; }
        seen = await read(opened, { ...what, series });
      }
      const was = scan;
      await enter(opened, true);
      if (was) api.close(was);
    } catch (error) {
      api.close(opened);
      throw error;
    }
  } catch (error) {
    done();
    fail(error);
    hands.enabled = Boolean(scan);
  }
}

async function read(opened, what) {
  progress('Reading the scan…');
  await api.read(opened, what);
  return settled(opened);
}

async function settled(opened) {
  let seen = await api.look(opened);
  while (seen.stage === 'reading') {
    await pause(WAIT);
    seen = await api.look(opened);
  }
  if (seen.stage === 'failed') throw new Error(seen.error);
  return seen;
}

// The number of the series that the person takes, or null.
function chooseSeries(choices) {
  progress('Which series?');
  const dialog = $('series');
  return new Promise((resolve) => {
    const take = (number) => { dialog.onclose = null; dialog.close(); resolve(number); };
    dialog.onclose = () => resolve(null);
    dialog.replaceChildren(
      element('h2', { textContent: 'Which series?' }),
      element('ul', {}, ...choices.map(([number, said]) => element('li', {}, element('button', { className: 'wide', textContent: said, onclick: () => take(number) })))),
      element('p', { className: 'hint', textContent: 'The folder holds more than one. Esc opens none.' }),
    );
    dialog.showModal();
  });
}

async function enter(opened, fresh) {
  const seen = await settled(opened);
  const bytes = await api.volume(opened, (at, all) => progress('Fetching the picture…', at / all));
  progress('Drawing the scan…');
  // The text is painted before the graphics card is kept busy.
  await pause(30);
  await view.show(bytes, seen.meta);
  [scan, meta, first] = [opened, seen.meta, fresh];
  remember(scan);
  $('welcome').hidden = true;
  $('scan-name').replaceChildren(element('b', { textContent: meta.name }), `${meta.stored_shape.join(' × ')} voxels of ${meta.stored_spacing.map((s) => Number(s.toPrecision(3))).join(' × ')} mm`);
  hands.smallest = (meta.range[1] - meta.range[0]) / 1e4;
  marks.outlines.clear();
  view.setWindow(meta.windows[0].low, meta.windows[0].high);
  tellWindow(meta.windows[0].low, meta.windows[0].high);
  $('save').disabled = false;
  $('save-seg').disabled = Boolean(meta.no_seg);
  $('seg-reason').textContent = meta.no_seg ?? 'for PACS and DICOM viewers';
  for (const note of meta.notes) fail(new Error(note));
  take(await api.masks(scan));
  hands.enabled = true;
  done();
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

function remember(id) { try { sessionStorage.setItem('scan', id ?? ''); } catch { /* private windows may refuse */ } }

function openFiles(files) {
  if (!files.length) return;
  const [{ file }] = files;
  if (files.length === 1 && file.name.toLowerCase().endsWith('.json')) { restore(file); return; }
  open(async (opened) => {
    progress('Handing the file over…', 0);
    const upload = await api.upload(opened, files, (at, all) => progress('Handing the file over…', all ? at / all : 1));
    return { source: 'upload', upload };
  });
}

// Files of a drop, with those of dropped folders.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file }));
  const found = [];
  const walk = async (entry, path) => {
    if (entry.isFile) found.push({ file: await new Promise((yes, no) => { entry.file(yes, no); }), path: path + entry.name });
    else {
      const reader = entry.createReader();
      // A reader hands out a hundred entries at a time.
      for (let some; (some = await new Promise((yes, no) => { reader.readEntries(yes, no); })).length;) {
        for (const one of some) await walk(one, `${path}${entry.name}/`);
      }
    }
  };
  for (const entry of entries) await walk(entry, '');
  return found;
}

// ---- clicking: one answer after the other, in the order of the clicks

function change(ask, text) {
  waiting += 1;
  // A fast answer shows no bar at all.
  const late = setTimeout(() => progress(text), 150);
  queue = queue.then(async () => {
    const id = scan;
    try {
      const answer = await ask(id);
      if (id === scan) { take(answer); forgive(); }
      return answer;
    } catch (error) {
      fail(error);
      return null;
    } finally {
      clearTimeout(late);
      waiting -= 1;
      if (!waiting) { marks.pending = null; done(); view.redraw(); }
    }
  });
  return queue;
}

function take(answer) {
  if (answer.box) view.put(answer.box, answer.labels);
  ({ objects, current } = answer);
  marks.prompts = answer.prompts;
  $('undo').disabled = !answer.can_undo;
  $('redo').disabled = !answer.can_redo;
  $('reset').disabled = !answer.prompts.length;
  showObjects(objects, current, act);
  showPrompts(answer.prompts, act);
  view.redraw();
}

async function prompt(what, outline) {
  if (what.kind === 'point') { marks.pending = what; animate(); }
  const text = first ? 'Looking at the scan: the first click takes a moment longer…' : 'Segmenting…';
  const answer = await change((id) => api.prompt(id, what), text);
  if (!answer) return;
  first = false;
  if (outline) { marks.outlines.set(answer.prompt, outline); view.redraw(); }
}

function animate() {
  if (!marks.pending) return;
  marks.draw();
  requestAnimationFrame(animate);
}

const act = {
  select: (name) => change((id) => api.object(id, { does: 'select', name }), 'Going to the object…'),
  rename: (name, to) => {
    if (name === to) return;
    change((id) => api.object(id, { does: 'rename', name, to }), 'Renaming…').then((answer) => { if (!answer) showObjects(objects, current, act); });
  },
  remove: (name) => change((id) => api.object(id, { does: 'remove', name }), 'Removing…'),
  unprompt: (prompt) => change((id) => api.step(id, { does: 'remove', prompt }), 'Taking it back…'),
  goTo: ({ at, box }) => view.goTo(at ?? box.map(([lo, hi]) => Math.floor((lo + hi - 1) / 2))),
};

const undo = () => { if (!$('undo').disabled) change((id) => api.step(id, { does: 'undo' }), 'Undoing…'); };
const redo = () => { if (!$('redo').disabled) change((id) => api.step(id, { does: 'redo' }), 'Redoing…'); };
const add = () => { if (scan) change((id) => api.object(id, { does: 'add' }), 'New object…'); };

function next() {
  if (objects.length < 2) return;
  const at = objects.findIndex((o) => o.name === current);
  act.select(objects[(at + 1) % objects.length].name);
}

async function startFromMask(file) {
  const ask = async (id) => {
    const upload = await api.upload(id, [{ file }], () => {});
    return api.prompt(id, { kind: 'mask', upload });
  };
  await change(ask, 'Reading the mask…');
}

async function restore(file) {
  closeMenus();
  if (!scan) { fail(new Error('Open the scan first, then its session.')); return; }
  let session;
  try { session = JSON.parse(await file.text()); } catch { fail(new Error(`${file.name} is no session: it is not JSON.`)); return; }
  marks.outlines.clear();
  await change((id) => api.restore(id, session), 'Going through the clicks of the session…');
}

// ---- saving

async function save(form) {
  closeMenus();
  if (!scan) return;
  await queue;
  progress('Saving…');
  try {
    const { blob, name } = await api.save(scan, form);
    const link = element('a', { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    done();
    say(`Saved as ${name}.`);
  } catch (error) {
    done();
    fail(error);
  }
}

// ---- looks

function setTool(tool) {
  hands.tool = tool;
  for (const name of Object.keys(TOOLS)) $(`tool-${name}`).setAttribute('aria-pressed', name === tool);
  hands.hover(null);
  hint();
}

function setOpacity(share) {
  const value = Math.min(1, Math.max(0, share));
  $('opacity').value = Math.round(100 * value);
  $('opacity').nextElementSibling.textContent = `${Math.round(100 * value)} %`;
  view.setOpacity(value);
}

function hide(hidden = !view.hidden) {
  $('shown').checked = !hidden;
  view.setHidden(hidden);
}

function tellWindow(low, high) {
  if (low === undefined) [low, high] = view.window;
  showWindows(meta.windows, [low, high], (w) => { view.setWindow(w.low, w.high); tellWindow(w.low, w.high); });
}

function nextWindow() {
  if (!meta) return;
  const [low, high] = view.window, { windows } = meta;
  const at = windows.findIndex((w) => Math.abs(w.low - low) + Math.abs(w.high - high) < 1e-3 * (high - low));
  const { low: l, high: h } = windows[(at + 1) % windows.length];
  view.setWindow(l, h);
  tellWindow(l, h);
}

function tellPosition(voxel) {
  if (!voxel || !meta) { $('position').textContent = ''; return; }
  const stored = meta.axes.map(({ axis, flipped }, i) => (flipped ? meta.stored_shape[i] - 1 - voxel[axis] : voxel[axis]));
  const number = view.labelAt(voxel), named = objects.find((o) => o.number === number);
  $('position').textContent = `${named ? `${named.name}   ` : ''}voxel ${stored.join(', ')}   value ${Number(view.valueAt(voxel).toPrecision(5))}`;
}

function caption() {
  if (!view.shape) return;
  $('captions').replaceChildren(...view.tiles().map((tile) => {
    const told = element('div', { className: 'caption' }, element('b', { textContent: tile.title }));
    if (tile.toPlane) told.append(`${tile.slice + 1} / ${view.shape[tile.normal]}`);
    const larger = element('button', { className: 'bare', textContent: view.single ? 'All views' : '⤢', title: view.single ? 'All views' : 'This view alone', onclick: () => view.setSingle(tile.name) });
    told.append(larger);
    Object.assign(told.style, { left: `${tile.rect.left}px`, top: `${tile.rect.top}px` });
    return told;
  }));
}

// ---- the parts put together

function closeMenus() {
  for (const menu of document.querySelectorAll('.menu')) {
    menu.querySelector('.menu-items').hidden = true;
    menu.querySelector('button').setAttribute('aria-expanded', false);
  }
}

for (const menu of document.querySelectorAll('.menu')) {
  const button = menu.querySelector('button'), items = menu.querySelector('.menu-items');
  button.onclick = (e) => {
    e.stopPropagation();
    const shown = items.hidden;
    closeMenus();
    items.hidden = !shown;
    button.setAttribute('aria-expanded', shown);
  };
}
document.addEventListener('click', (e) => { if (!e.target.closest('.menu-items')) closeMenus(); });
document.addEventListener('keydown', (e) => { if (e.key === 'Escape') closeMenus(); });

function toolButton(id, [title, key, picture], does) {
  const button = element('button', { id, title: `${title} (${key})`, onclick: does });
  button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true">${picture}</svg>`;
  button.append(title);
  return button;
}
for (const [name, tool] of Object.entries(TOOLS)) $('tools').append(toolButton(`tool-${name}`, tool, () => setTool(name)));
$('tools').append(element('hr'), toolButton('undo', STEPS.undo, undo), toolButton('redo', STEPS.redo, redo));
$('undo').disabled = $('redo').disabled = $('reset').disabled = true;

const choose = { file: $('file'), folder: $('folder'), session: $('session-file'), mask: $('mask-file') };
for (const id of ['open-file', 'welcome-open']) $(id).onclick = () => choose.file.click();
for (const id of ['open-folder', 'welcome-folder']) $(id).onclick = () => choose.folder.click();
for (const id of ['open-demo', 'welcome-demo']) $(id).onclick = () => open(async () => ({ source: 'demo' }));
$('open-given').onclick = () => open(async () => ({ source: 'given' }));
$('open-session').onclick = () => choose.session.click();
$('mask').onclick = () => { if (scan) choose.mask.click(); };
const chosen = (input, does) => { input.onchange = () => { const files = [...input.files]; input.value = ''; if (files.length) does(files); }; };
chosen(choose.file, (files) => openFiles(files.map((file) => ({ file }))));
chosen(choose.folder, (files) => openFiles(files.map((file) => ({ file, path: file.webkitRelativePath }))));
chosen(choose.session, ([file]) => restore(file));
chosen(choose.mask, ([file]) => startFromMask(file));

let over = 0;
const carries = (e) => [...(e.dataTransfer?.types ?? [])].includes('Files');
addEventListener('dragenter', (e) => { if (carries(e)) { e.preventDefault(); over += 1; $('dropping').hidden = false; } });
addEventListener('dragleave', () => { over = Math.max(0, over - 1); if (!over) $('dropping').hidden = true; });
addEventListener('dragover', (e) => e.preventDefault());
addEventListener('drop', async (e) => {
  e.preventDefault();
  over = 0;
  $('dropping').hidden = true;
  try { openFiles(await dropped(e.dataTransfer)); } catch (error) { fail(error); }
});

$('add').onclick = add;
$('reset').onclick = () => change((id) => api.step(id, { does: 'reset' }), 'Clearing…');
$('save-nifti').onclick = () => save('nifti');
$('save-seg').onclick = () => save('seg');
$('save-session').onclick = () => save('session');
$('opacity').oninput = (e) => setOpacity(e.target.value / 100);
$('shown').onchange = (e) => hide(!e.target.checked);
$('help-open').onclick = () => $('help').showModal();
fillHelp($('help'));
listen({
  tool: setTool, add, next, undo, redo, hide: () => hide(), help: () => $('help').showModal(), window: nextWindow,
  save: () => save('nifti'), reset: () => { if (scan) view.reset(); }, opacity: (by) => setOpacity(view.opacity + by),
  rename: () => $('objects').querySelector('[aria-current=true] input')?.select(),
  single: (name) => { if (scan) view.setSingle(name); },
  brush: (factor) => { hands.radius = Math.min(80, Math.max(2, hands.radius * factor)); if (marks.brush) { marks.brush.radius = hands.radius; marks.draw(); } },
  scroll: (slices) => { if (scan) view.scroll(underHand(), slices); },
  zoom: (factor) => { if (scan) { const t = underHand(); view.zoom(t, factor, t.rect.left + t.rect.width / 2, t.rect.top + t.rect.height / 2); } },
}, hands);

// The plane that the mouse was over last, or the first.
let last = 'axial';
$('marks').addEventListener('pointermove', (e) => {
  if (!scan) return;
  const tile = view.tileAt(...hands.place(e));
  if (tile?.toPlane) last = tile.name;
});
const underHand = () => view.tiles().find((t) => t.name === last) ?? view.tiles()[0];

view.drawn = () => { marks.draw(); caption(); };
showObjects([], null, act);
showPrompts([], act);
setTool('click');

// A scan that nobody looks at any more is given up by the server after a while.
setInterval(() => { if (scan) api.look(scan).catch((error) => { if (error.status === 404 || error.status === 410) { fail(error); scan = null; remember(null); hands.enabled = false; } }); }, HEARTBEAT);

async function start() {
  await view.attach();
  const known = await api.about();
  $('open-given').hidden = !known.given;
  if (known.given) $('open-given').querySelector('small').textContent = known.given;
  for (const id of ['open-demo', 'welcome-demo']) $(id).hidden = !known.demo;
  let kept = null;
  try { kept = sessionStorage.getItem('scan'); } catch { /* nothing is kept then */ }
  if (kept) {
    try {
      progress('Going on where you were…');
      await enter(kept, false);
      return;
    } catch { remember(null); done(); }
  }
  if (known.given) await open(async () => ({ source: 'given' }));
}
// For tests and for the curious.
window.page = { view, hands, marks, state: () => ({ scan, meta, objects, current, waiting }) };
start().catch(fail);
