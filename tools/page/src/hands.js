// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// Mouse and pen over the planes: what is a click, what is a stroke, and what moves the picture.

import { boxOf } from './marks.js';
import { brushed, filled } from './shapes.js';
import { packed } from './api.js';

// A press that moves less than this many pixels is a click.
const STILL = 4;

export class Hands {
  // act: prompt(what, outline), hover(voxel)
  constructor(canvas, view, marks, act) {
    Object.assign(this, { canvas, view, marks, act, tool: 'click', radius: 10, press: null, space: false, enabled: false });
    canvas.addEventListener('pointerdown', (e) => this.down(e));
    canvas.addEventListener('pointermove', (e) => this.move(e));
    canvas.addEventListener('pointerup', (e) => this.up(e));
    canvas.addEventListener('pointercancel', () => this.cancel());
    canvas.addEventListener('pointerleave', () => { if (!this.press) this.hover(null); });
    canvas.addEventListener('contextmenu', (e) => e.preventDefault());
    canvas.addEventListener('wheel', (e) => this.wheel(e), { passive: false });
  }

  place(e) {
    const box = this.canvas.getBoundingClientRect();
    return [e.clientX - box.left, e.clientY - box.top];
  }

  down(e) {
    if (!this.enabled || this.press) return;
    const [x, y] = this.place(e), tile = this.view.tileAt(x, y);
    if (!tile) return;
    e.preventDefault();
    this.canvas.setPointerCapture(e.pointerId);
    // On a Mac, a click with the Control key is a right click.
    const right = e.button === 2 || (e.button === 0 && e.ctrlKey);
    let does = 'draw';
    if (tile.name === 'solid') does = 'turn';
    else if (e.button === 1 || this.space || e.shiftKey) does = right ? 'window' : 'pan';
    else if (this.tool === 'click') does = 'click';
    this.press = { tile, right, does, moved: false, x, y, from: [x, y], path: [] };
    if (does === 'draw') {
      this.press.path.push(tile.toPlane(x, y));
      this.marks.hand = { tile, tool: this.tool, include: !right, path: this.press.path, radius: this.radius };
      this.view.redraw();
    }
  }

  move(e) {
    if (!this.enabled) return;
    const [x, y] = this.place(e), { press } = this;
    if (!press) { this.hover([x, y]); return; }
    const dx = x - press.x, dy = y - press.y;
    if (Math.hypot(x - press.from[0], y - press.from[1]) > STILL) press.moved = true;
    if (!press.moved) return;
    [press.x, press.y] = [x, y];
    const does = press.does === 'click' ? (press.right ? 'window' : 'pan') : press.does;
    if (does === 'turn') this.view.turn(dx, dy);
    else if (does === 'pan') this.view.pan(press.tile, dx, dy);
    else if (does === 'window') this.widen(dx, dy);
    else {
      press.path.push(press.tile.toPlane(x, y));
      this.view.redraw();
    }
  }

  up(e) {
    const { press } = this;
    if (!press) return;
    this.cancel();
    const [x, y] = this.place(e);
    if (press.does === 'draw') this.finish(press);
    else if (press.does === 'click' && !press.moved) this.click(press, x, y);
  }

  cancel() {
    this.press = this.marks.hand = null;
    this.view.redraw();
  }

  click(press, x, y) {
    const voxel = this.view.voxelAt(press.tile, x, y);
    if (!voxel) return;
    this.view.goTo(voxel);
    this.act.prompt({ kind: 'point', at: voxel, include: !press.right });
  }

  finish({ tile, right, moved, path, from }) {
    const include = !right, { shape } = this.view;
    if (!moved && this.tool !== 'brush') { this.click({ tile, right }, ...from); return; }
    if (this.tool === 'box') {
      const box = boxOf(tile, path[0], path[path.length - 1]).map(([lo, hi], axis) => [Math.max(0, lo), Math.min(shape[axis], hi)]);
      if (box.every(([lo, hi]) => lo < hi)) this.act.prompt({ kind: 'box', box, include });
      return;
    }
    const [nu, nv] = [shape[tile.u], shape[tile.v]], closed = this.tool === 'lasso';
    const [ru, rv] = tile.step.map((voxels) => Math.abs(voxels) * this.radius);
    const drawn = closed ? filled(path, nu, nv) : brushed(path, ru, rv, nu, nv);
    if (!drawn.mask.some(Boolean)) return;
    const box = [];
    [box[tile.u], box[tile.v], box[tile.normal]] = [drawn.u, drawn.v, [tile.slice, tile.slice + 1]];
    // u is the lower axis of the plane in every plane, so that the mask is in the order of the volume, x fastest.
    this.act.prompt({ kind: this.tool, box, bits: packed(drawn.mask), include }, { normal: tile.normal, path, closed });
  }

  hover(at) {
    const tile = at && this.view.tileAt(...at);
    this.marks.brush = this.tool === 'brush' && tile?.toPlane ? { tile, x: at[0], y: at[1], radius: this.radius } : null;
    this.canvas.style.cursor = !this.enabled ? 'default' : tile?.name === 'solid' || this.space ? 'grab' : 'crosshair';
    this.act.hover(tile ? this.view.voxelAt(tile, ...at) : null);
    this.marks.draw();
  }

  wheel(e) {
    if (!this.enabled) return;
    e.preventDefault();
    const [x, y] = this.place(e), tile = this.view.tileAt(x, y);
    if (!tile || this.press) return;
    if (e.ctrlKey || tile.name === 'solid') this.view.zoom(tile, Math.exp(-e.deltaY / 500), x, y);
    else this.view.scroll(tile, -Math.sign(e.deltaY));
    this.hover([x, y]);
  }

  // Right: brighter range wider; down: darker.
  widen(dx, dy) {
    const [low, high] = this.view.window, width = high - low, middle = (low + high) / 2 + dy / 300 * width;
    const wide = Math.max(width * Math.exp(dx / 250), this.smallest);
    this.view.setWindow(middle - wide / 2, middle + wide / 2);
    this.act.windowed();
  }
}
