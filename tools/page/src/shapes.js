// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// Voxels of a drawn shape in one slice. The plane's axes are u and v; voxel i reaches from i to i + 1 along an axis.

const RIM = 1e-9;

// Voxels whose centre lies inside a closed outline, [[u, v], ...]: the even-odd rule, row by row.
export function filled(outline, nu, nv) {
  const us = outline.map((p) => p[0]), vs = outline.map((p) => p[1]);
  const [u0, u1] = range(us, nu), [v0, v1] = range(vs, nv);
  const mask = new Uint8Array((u1 - u0) * (v1 - v0));
  for (let v = v0; v < v1; v++) {
    const at = v + 0.5, cuts = [];
    outline.forEach(([ua, va], i) => {
      const [ub, vb] = outline[(i + 1) % outline.length];
      if ((va <= at) !== (vb <= at)) cuts.push(ua + (at - va) / (vb - va) * (ub - ua));
    });
    cuts.sort((a, b) => a - b);
    for (let k = 0; k + 1 < cuts.length; k += 2) {
      const from = Math.max(u0, Math.ceil(cuts[k] - 0.5)), to = Math.min(u1 - 1, Math.floor(cuts[k + 1] - 0.5 - RIM));
      for (let u = from; u <= to; u++) mask[(v - v0) * (u1 - u0) + (u - u0)] = 1;
    }
  }
  return { u: [u0, u1], v: [v0, v1], mask };
}

// Voxels that a round brush touches along a path; ru and rv are its radii in voxels along the two axes.
export function brushed(path, ru, rv, nu, nv) {
  const [u0, u1] = range(path.flatMap((p) => [p[0] - ru, p[0] + ru]), nu);
  const [v0, v1] = range(path.flatMap((p) => [p[1] - rv, p[1] + rv]), nv);
  const width = Math.max(0, u1 - u0), mask = new Uint8Array(width * Math.max(0, v1 - v0));
  const stamp = (u, v) => {
    for (let j = Math.max(v0, Math.floor(v - rv)); j < Math.min(v1, v + rv); j++) {
      for (let i = Math.max(u0, Math.floor(u - ru)); i < Math.min(u1, u + ru); i++) {
        if (((i + 0.5 - u) / ru) ** 2 + ((j + 0.5 - v) / rv) ** 2 <= 1) mask[(j - v0) * width + (i - u0)] = 1;
      }
    }
    // The voxel under the brush's middle is meant, however thin the brush is.
    const i = Math.floor(u), j = Math.floor(v);
    if (i >= u0 && i < u1 && j >= v0 && j < v1) mask[(j - v0) * width + (i - u0)] = 1;
  };
  path.forEach(([u, v], k) => {
    const [pu, pv] = path[Math.max(0, k - 1)];
    const steps = Math.max(1, Math.ceil(2 * Math.hypot((u - pu) / Math.max(ru, 0.5), (v - pv) / Math.max(rv, 0.5))));
    for (let s = 1; s <= steps; s++) stamp(pu + (u - pu) * s / steps, pv + (v - pv) * s / steps);
  });
  return { u: [u0, u1], v: [v0, v1], mask };
}

function range(values, n) {
  return [Math.max(0, Math.floor(Math.min(...values))), Math.min(n, Math.ceil(Math.max(...values)))];
}
