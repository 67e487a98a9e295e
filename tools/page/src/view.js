// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// The scan in three planes and 3D, by NiiVue. Positions are voxels of the volume as the server sends it: its axes lead
// to the right, front and top of the patient, so that NiiVue has nothing to turn; only the server knows how the
// file is stored.

import { Niivue, NVImage, SLICE_TYPE } from './niivue.js';

// Objects' colours, told apart on grey and in the common forms of colour blindness as well as twelve can be.
export const COLOURS = [
  [255, 159, 64], [62, 189, 220], [240, 98, 146], [122, 204, 90], [250, 220, 80], [160, 130, 250],
  [255, 112, 82], [60, 200, 160], [215, 150, 100], [110, 150, 255], [220, 120, 220], [180, 190, 60],
];
export const colour = (number) => COLOURS[(number - 1) % COLOURS.length];

const PLANES = {
  axial: { type: SLICE_TYPE.AXIAL, normal: 2, u: 0, v: 1, title: 'Axial' },
  sagittal: { type: SLICE_TYPE.SAGITTAL, normal: 0, u: 1, v: 2, title: 'Sagittal' },
  coronal: { type: SLICE_TYPE.CORONAL, normal: 1, u: 0, v: 2, title: 'Coronal' },
  solid: { type: SLICE_TYPE.RENDER, title: '3D' },
};
const GAP = 2;
// A slice leaves a little room around it.
const MARGIN = 1.04;
const QUARTERS = { axial: [0, 0], sagittal: [1, 0], coronal: [0, 1], solid: [1, 1] };

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.single = null;
    this.shape = null;
    this.opacity = 0.5;
    this.hidden = false;
    this.nv = new Niivue({
      interactive: false, dragAndDropEnabled: false, isRadiologicalConvention: true, isSliceMM: false,
      backColor: [0, 0, 0, 1], crosshairWidth: 0, isOrientationTextVisible: false, loadingText: '', logLevel: 'error',
    });
    this.drawn = () => {};
    this.waiting = false;
  }

  async attach() {
    await this.nv.attachToCanvas(this.canvas);
    this.fillTiles();
    this.nv.setDrawColormap(drawingColours());
    new ResizeObserver(() => { if (this.shape) this.layOut(); }).observe(this.canvas);
  }

  // NiiVue shows a slice in a strip as wide as the volume, also when it is zoomed into. Here a slice has its whole tile:
  // the field of view is widened to the shape of the tile.
  fillTiles() {
    const { nv } = this, field = nv.screenFieldOfViewExtendedVox.bind(nv);
    nv.calculateWidthHeight = (type, scale, width, height) => [width, height];
    nv.screenFieldOfViewExtendedVox = (type) => {
      const seen = field(type), { width, height } = this.canvas.getBoundingClientRect();
      // All tiles have the shape of the canvas.
      const wider = seen.fovMM[0] * height / (seen.fovMM[1] * width);
      const axis = wider < 1 ? 0 : 1, factor = axis ? wider : 1 / wider;
      const more = MARGIN * factor * seen.fovMM[axis] - seen.fovMM[axis], other = (MARGIN - 1) * seen.fovMM[1 - axis];
      for (const [i, by] of [[axis, more], [1 - axis, other]]) {
        seen.fovMM[i] += by;
        seen.mnMM[i] -= by / 2;
        seen.mxMM[i] += by / 2;
      }
      return seen;
    };
  }

  async show(bytes, meta) {
    const image = await NVImage.loadFromUrl({ url: 'scan.nii', name: 'scan.nii', buffer: bytes });
    while (this.nv.volumes.length) this.nv.removeVolume(this.nv.volumes[0]);
    this.nv.addVolume(image);
    if (image.permRAS.some((axis, i) => axis !== i + 1)) throw new Error('The scan could not be laid out for display.');
    this.shape = meta.shape;
    this.spacing = meta.spacing;
    this.labels = new Uint8Array(meta.shape[0] * meta.shape[1] * meta.shape[2]);
    this.nv.drawBitmap = this.labels;
    const { gl } = this.nv;
    this.nv.drawTexture = this.nv.r8Tex(this.nv.drawTexture, gl.TEXTURE7, this.nv.back.dims, true);
    this.put([[0, meta.shape[0]], [0, meta.shape[1]], [0, meta.shape[2]]], this.labels, true);
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.nv.scene.crosshairPos = [0.5, 0.5, 0.5];
    this.goTo(meta.shape.map((n) => Math.floor(n / 2)));
    this.setOpacity(this.opacity);
    this.single = null;
    this.layOut();
  }

  // Labels of a box, one byte a voxel, x fastest. Only the box goes to the graphics card.
  put(box, bytes, quiet = false) {
    const [[x0, x1], [y0, y1], [z0, z1]] = box, [nx, ny] = this.shape;
    const row = x1 - x0;
    if (bytes !== this.labels) {
      for (let z = z0, at = 0; z < z1; z++) {
        for (let y = y0; y < y1; y++, at += row) this.labels.set(bytes.subarray(at, at + row), x0 + nx * (y + ny * z));
      }
    }
    const { gl } = this.nv;
    gl.activeTexture(gl.TEXTURE7);
    gl.bindTexture(gl.TEXTURE_3D, this.nv.drawTexture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, x0, y0, z0, row, y1 - y0, z1 - z0, gl.RED, gl.UNSIGNED_BYTE, bytes);
    if (!quiet) this.redraw();
  }

  labelAt([x, y, z]) { return this.labels[x + this.shape[0] * (y + this.shape[1] * z)]; }

  valueAt([x, y, z]) { return this.nv.volumes[0].getValue(x, y, z); }

  setOpacity(opacity) {
    this.opacity = opacity;
    const seen = this.hidden ? 0 : opacity;
    this.nv.drawOpacity = seen;
    this.nv.drawRimOpacity = seen ? Math.min(1, seen + 0.45) : 0;
    this.redraw();
  }

  setHidden(hidden) { this.hidden = hidden; this.setOpacity(this.opacity); }

  get window() { const v = this.nv.volumes[0]; return [v.cal_min, v.cal_max]; }

  setWindow(low, high) {
    const v = this.nv.volumes[0];
    [v.cal_min, v.cal_max] = [low, high];
    this.windowChanged = true;
    this.redraw();
  }

  layOut() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    const half = [(1 - GAP / width) / 2, (1 - GAP / height) / 2];
    const layout = Object.entries(PLANES).filter(([name]) => !this.single || name === this.single).map(([name, plane]) => {
      const [i, j] = QUARTERS[name];
      const position = this.single ? [0, 0, 1, 1] : [i * (1 - half[0]), j * (1 - half[1]), ...half];
      return { sliceType: plane.type, position };
    });
    this.nv.setCustomLayout(layout);
    this.redraw();
  }

  setSingle(name) { this.single = this.single === name ? null : name; this.layOut(); }

  redraw() {
    if (this.waiting || !this.shape) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.windowChanged) { this.windowChanged = false; this.nv.updateGLVolume(); } else this.nv.drawScene();
      this.drawn();
    });
  }

  // What lies on the screen: for each tile its name, rectangle in CSS pixels, and how pixels and voxels go together.
  tiles() {
    const dpr = this.nv.uiData.dpr ?? 1;
    return this.nv.screenSlices.map((slice, index) => {
      const [name, plane] = Object.entries(PLANES).find(([, p]) => p.type === slice.axCorSag);
      const [left, top, width, height] = slice.leftTopWidthHeight.map((n) => n / dpr);
      const tile = { name, ...plane, rect: { left: width < 0 ? left + width : left, top, width: Math.abs(width), height } };
      if (name !== 'solid') this.measure(tile, index, dpr);
      return tile;
    });
  }

  // Both ways between pixels and voxels (not rounded: a voxel reaches from i to i + 1), from two points that NiiVue maps.
  measure(tile, index, dpr) {
    const { left, top, width, height } = tile.rect;
    const at = (fx, fy) => this.nv.screenXY2TextureFrac((left + fx * width) * dpr, (top + fy * height) * dpr, index, false);
    const a = at(0.25, 0.25), b = at(0.75, 0.75);
    const { u, v } = tile;
    const scale = (axis, span) => (b[axis] - a[axis]) * this.shape[axis] / (0.5 * span);
    const du = scale(u, width), dv = scale(v, height);
    const u0 = a[u] * this.shape[u] - du * (left + 0.25 * width), v0 = a[v] * this.shape[v] - dv * (top + 0.25 * height);
    tile.slice = this.at[tile.normal];
    tile.toPlane = (x, y) => [u0 + du * x, v0 + dv * y];
    tile.toPixels = (pu, pv) => [(pu - u0) / du, (pv - v0) / dv];
    tile.step = [du, dv];
  }

  tileAt(x, y) {
    return this.tiles().find(({ rect: r }) => x >= r.left && x < r.left + r.width && y >= r.top && y < r.top + r.height);
  }

  // The voxel under a pixel of a tile, or null beside the volume.
  voxelAt(tile, x, y) {
    if (!tile?.toPlane) return null;
    const voxel = [0, 0, 0];
    const [pu, pv] = tile.toPlane(x, y).map(Math.floor);
    voxel[tile.u] = pu; voxel[tile.v] = pv; voxel[tile.normal] = tile.slice;
    return voxel.every((n, axis) => n >= 0 && n < this.shape[axis]) ? voxel : null;
  }

  goTo(voxel) {
    this.at = voxel.map((n, axis) => Math.min(Math.max(Math.round(n), 0), this.shape[axis] - 1));
    this.nv.scene.crosshairPos = this.at.map((n, axis) => (n + 0.5) / this.shape[axis]);
    this.redraw();
  }

  scroll(tile, slices) {
    if (!tile?.toPlane) return;
    const to = [...this.at];
    to[tile.normal] += slices;
    this.goTo(to);
  }

  pan(tile, dx, dy) {
    const pan = [...this.nv.scene.pan2Dxyzmm];
    const zoom = pan[3];
    pan[tile.u] += dx * tile.step[0] * this.spacing[tile.u] * zoom;
    pan[tile.v] += dy * tile.step[1] * this.spacing[tile.v] * zoom;
    this.nv.scene.pan2Dxyzmm = pan;
    this.redraw();
  }

  // Larger or smaller; what lies under the pixel stays there, and the cross in the other planes.
  zoom(tile, factor, x, y) {
    if (!tile) return;
    if (tile.name === 'solid') {
      this.nv.scene.volScaleMultiplier = Math.min(4, Math.max(0.4, this.nv.scene.volScaleMultiplier * factor));
      this.redraw();
      return;
    }
    const focus = this.at.map((n) => n + 0.5), pan = [...this.nv.scene.pan2Dxyzmm], before = pan[3];
    [focus[tile.u], focus[tile.v]] = tile.toPlane(x, y);
    pan[3] = Math.min(20, Math.max(0.5, before * factor));
    const mm = this.nv.frac2mm(focus.map((n, axis) => n / this.shape[axis]));
    for (let axis = 0; axis < 3; axis++) pan[axis] += mm[axis] * (before - pan[3]);
    this.nv.scene.pan2Dxyzmm = pan;
    this.redraw();
  }

  reset() {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.nv.scene.volScaleMultiplier = 1;
    this.nv.setRenderAzimuthElevation(110, 10);
    this.redraw();
  }

  turn(dx, dy) {
    const { scene } = this.nv;
    this.nv.setRenderAzimuthElevation(scene.renderAzimuth - dx / 2, Math.max(-90, Math.min(90, scene.renderElevation + dy / 2)));
    this.redraw();
  }
}

function drawingColours() {
  const R = [0], G = [0], B = [0], A = [0], I = [0], labels = [''];
  for (let i = 1; i < 256; i++) {
    const [r, g, b] = colour(i);
    R.push(r); G.push(g); B.push(b); A.push(255); I.push(i); labels.push(String(i));
  }
  return { R, G, B, A, I, labels };
}
