// Copyright (c) SAM bundles for MONAI contributors
// Licensed under the Apache License, Version 2.0: see the file LICENSE.

// What the page asks of the server: JSON there, JSON and voxels back. Every failure is an Error with one sentence.

const CHUNK = 8 << 20;
const GONE = 'The program on this computer does not answer. Is its window still open? Start it again, then reload this page.';

export class Refused extends Error {
  constructor(sentence, status) { super(sentence); this.status = status; }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: 'no-store', ...options });
  } catch {
    throw new Refused(GONE, 0);
  }
  if (answer.ok) return answer;
  let sentence = `the server answered ${answer.status}`;
  try { sentence = (await answer.json()).detail ?? sentence; } catch { /* no JSON: the status has to do */ }
  throw new Refused(String(sentence), answer.status);
}

const json = (method, body) => ({ method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });

export const about = async () => (await ask('page/about')).json();
export const open = async () => (await ask('page/scans', json('POST', {}))).json();
export const read = async (scan, what) => (await ask(`page/scans/${scan}/image`, json('POST', what))).json();
export const look = async (scan) => (await ask(`page/scans/${scan}`)).json();
export const close = (scan) => navigator.sendBeacon(`page/scans/${scan}/close`);

// Files to the server in pieces; told(done, all) in bytes as they arrive. Returns the upload's number.
export async function upload(scan, files, told) {
  const list = files.map((f) => ({ name: f.path ?? f.file.name, size: f.file.size }));
  const { upload: id } = await (await ask(`page/scans/${scan}/uploads`, json('POST', { files: list }))).json();
  const all = list.reduce((sum, f) => sum + f.size, 0);
  let done = 0;
  for (const [i, { file }] of files.entries()) {
    for (let at = 0; at < file.size; at += CHUNK) {
      const piece = file.slice(at, at + CHUNK);
      await ask(`page/scans/${scan}/uploads/${id}/${i}?offset=${at}`, { method: 'PUT', body: piece });
      told((done += piece.size), all);
    }
  }
  return id;
}

// The volume as NIfTI bytes, told(done, all) as they arrive.
export async function volume(scan, told) {
  const answer = await ask(`page/scans/${scan}/volume`);
  const all = Number(answer.headers.get('Content-Length'));
  const bytes = new Uint8Array(all);
  const reader = answer.body.getReader();
  for (let at = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return bytes.buffer;
    bytes.set(value, at);
    told((at += value.length), all);
  }
}

// An answer that changes masks: how many bytes of JSON, the JSON, then one byte for each voxel of its box, x fastest.
async function changed(path, body) {
  const bytes = await (await ask(path, json('POST', body))).arrayBuffer();
  const length = new DataView(bytes).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  return { ...told, labels: new Uint8Array(bytes, 4 + length) };
}

export const prompt = (scan, what) => changed(`page/scans/${scan}/prompts`, what);
export const step = (scan, what) => changed(`page/scans/${scan}/steps`, what);
export const object = (scan, what) => changed(`page/scans/${scan}/objects`, what);
export const restore = (scan, session) => changed(`page/scans/${scan}/restore`, session);
export const masks = (scan) => changed(`page/scans/${scan}/masks`, {});

// The file as a Blob, and the name that the server gives it.
export async function save(scan, form) {
  const answer = await ask(`page/scans/${scan}/save/${form}`);
  const named = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get('Content-Disposition') ?? '');
  return { blob: await answer.blob(), name: named ? decodeURIComponent(named[1]) : form };
}

// Bits of a mask, eight voxels a byte, the first voxel in the highest bit, as base64.
export function packed(mask) {
  const bytes = new Uint8Array((mask.length + 7) >> 3);
  mask.forEach((v, i) => { if (v) bytes[i >> 3] |= 128 >> (i & 7); });
  let text = '';
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
