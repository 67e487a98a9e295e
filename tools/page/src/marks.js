// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// What is drawn over the planes: the prompts of the current object, and what the hand is drawing now.

const IN = '#4bd37b', OUT = '#ff6b61', EDGE = '#0a0c10';
// A click is drawn in its own slice, and faintly up to so many slices away.
const NEAR = 2;
// The lines of the cross leave the middle free, in pixels.
const HOLE = 14;
// Letters of the patient's sides along each axis of the page: where it begins, where it leads to.
const SIDES = [['L', 'R'], ['P', 'A'], ['I', 'S']];

export class Marks {
  constructor(canvas, view) {
    this.canvas = canvas;
    this.view = view;
    this.prompts = [];
    this.outlines = new Map();
    this.pending = null;
    this.hand = null;
    this.brush = null;
  }

  draw() {
    const { canvas, view } = this, dpr = window.devicePixelRatio || 1;
    const { width, height } = canvas.getBoundingClientRect();
    if (canvas.width !== Math.round(width * dpr)) canvas.width = Math.round(width * dpr);
    if (canvas.height !== Math.round(height * dpr)) canvas.height = Math.round(height * dpr);
    const pen = canvas.getContext('2d');
    pen.setTransform(dpr, 0, 0, dpr, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!view.shape) return;
    pen.fillStyle = '#2a303a';
    if (!view.single) {
      pen.fillRect(width / 2 - 1, 0, 2, height);
      pen.fillRect(0, height / 2 - 1, width, 2);
    }
    for (const tile of view.tiles().filter((t) => t.toPlane)) {
      pen.save();
      pen.beginPath();
      pen.rect(tile.rect.left, tile.rect.top, tile.rect.width, tile.rect.height);
      pen.clip();
      this.drawCross(pen, tile);
      drawSides(pen, tile);
      for (const prompt of this.prompts) this.drawPrompt(pen, tile, prompt);
      if (this.pending) this.drawPending(pen, tile);
      if (this.hand?.tile.name === tile.name) this.drawHand(pen, tile);
      if (this.brush?.tile.name === tile.name && !this.hand) this.drawBrush(pen, tile, this.brush);
      pen.restore();
    }
  }

  // Where the other two planes cut this one.
  drawCross(pen, tile) {
    const { left, top, width, height } = tile.rect, { at } = this.view;
    const [x, y] = tile.toPixels(at[tile.u] + 0.5, at[tile.v] + 0.5).map((n) => Math.round(n) + 0.5);
    pen.strokeStyle = '#4da3ff99';
    pen.lineWidth = 1;
    pen.beginPath();
    for (const way of [-1, 1]) {
      pen.moveTo(x + way * HOLE, y); pen.lineTo(way < 0 ? left : left + width, y);
      pen.moveTo(x, y + way * HOLE); pen.lineTo(x, way < 0 ? top : top + height);
    }
    pen.stroke();
  }

  drawPrompt(pen, tile, prompt) {
    if (prompt.at) {
      const off = Math.abs(prompt.at[tile.normal] - tile.slice);
      if (off <= NEAR) sign(pen, tile.toPixels(prompt.at[tile.u] + 0.5, prompt.at[tile.v] + 0.5), prompt.include, off ? 0.3 : 1);
      return;
    }
    if (!prompt.box) return;
    const [lo, hi] = prompt.box[tile.normal];
    if (tile.slice < lo || tile.slice >= hi) return;
    const outline = this.outlines.get(prompt.id);
    pen.globalAlpha = 0.9;
    if (outline && outline.normal === tile.normal) line(pen, outline.path.map((p) => tile.toPixels(...p)), prompt.include, outline.closed);
    else rectangle(pen, tile, prompt.box, prompt.include, prompt.kind !== 'box');
    pen.globalAlpha = 1;
  }

  drawPending(pen, tile) {
    const { at, include } = this.pending;
    if (at[tile.normal] !== tile.slice) return;
    const [x, y] = tile.toPixels(at[tile.u] + 0.5, at[tile.v] + 0.5);
    const grown = (performance.now() % 900) / 900;
    pen.strokeStyle = include ? IN : OUT;
    pen.globalAlpha = 1 - grown;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x, y, 7 + 14 * grown, 0, 7);
    pen.stroke();
    sign(pen, [x, y], include, 1);
  }

  drawHand(pen, tile) {
    const { path, tool, include } = this.hand;
    if (tool === 'box') {
      const [a, b] = [path[0], path[path.length - 1]];
      rectangle(pen, tile, boxOf(tile, a, b), include, false);
    } else if (tool === 'lasso') {
      line(pen, path.map((p) => tile.toPixels(...p)), include, true);
    } else {
      const [, radius] = [0, this.hand.radius];
      pen.globalAlpha = 0.55;
      pen.strokeStyle = include ? IN : OUT;
      pen.lineCap = pen.lineJoin = 'round';
      pen.lineWidth = 2 * radius;
      pen.beginPath();
      path.forEach((p, i) => { const [x, y] = tile.toPixels(...p); if (i) pen.lineTo(x, y); else pen.moveTo(x, y - 0.01); pen.lineTo(x, y); });
      pen.stroke();
      pen.globalAlpha = 1;
    }
  }

  drawBrush(pen, tile, { x, y, radius }) {
    pen.strokeStyle = '#fff';
    pen.lineWidth = 1;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.stroke();
  }
}

// The patient's side at the edges of a tile.
function drawSides(pen, tile) {
  const { left, top, width, height } = tile.rect;
  const side = (axis, step) => SIDES[axis][step > 0 ? 1 : 0];
  pen.font = '600 12px system-ui, sans-serif';
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  const [du, dv] = tile.step;
  const places = [[left + 14, top + height / 2, side(tile.u, -du)], [left + width - 14, top + height / 2, side(tile.u, du)],
    [left + width / 2, top + 16, side(tile.v, -dv)], [left + width / 2, top + height - 16, side(tile.v, dv)]];
  for (const [x, y, letter] of places) {
    pen.fillStyle = '#000a'; pen.fillText(letter, x + 1, y + 1);
    pen.fillStyle = '#98a2b0'; pen.fillText(letter, x, y);
  }
}

// The flat box that two corners of a slice span; a voxel that is touched belongs to it.
export function boxOf(tile, a, b) {
  const box = [];
  [[tile.u, 0], [tile.v, 1]].forEach(([axis, i]) => {
    const low = Math.floor(Math.min(a[i], b[i])), high = Math.ceil(Math.max(a[i], b[i]));
    box[axis] = [low, Math.max(low + 1, high)];
  });
  box[tile.normal] = [tile.slice, tile.slice + 1];
  return box;
}

function sign(pen, [x, y], include, alpha) {
  pen.globalAlpha = alpha;
  pen.fillStyle = include ? IN : OUT;
  pen.strokeStyle = EDGE;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.arc(x, y, 7, 0, 7);
  pen.fill();
  pen.stroke();
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x - 3.5, y); pen.lineTo(x + 3.5, y);
  if (include) { pen.moveTo(x, y - 3.5); pen.lineTo(x, y + 3.5); }
  pen.stroke();
  pen.globalAlpha = 1;
}

function stroke(pen, include) {
  pen.lineWidth = 3.5; pen.strokeStyle = '#0009'; pen.stroke();
  pen.lineWidth = 2; pen.strokeStyle = include ? IN : OUT; pen.stroke();
}

function line(pen, points, include, closed) {
  pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  if (closed) pen.closePath();
  stroke(pen, include);
}

function rectangle(pen, tile, box, include, dashed) {
  const [x0, y0] = tile.toPixels(box[tile.u][0], box[tile.v][0]), [x1, y1] = tile.toPixels(box[tile.u][1], box[tile.v][1]);
  pen.setLineDash(dashed ? [5, 5] : []);
  pen.beginPath();
  pen.rect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
  stroke(pen, include);
  pen.setLineDash([]);
}
