// The WebAssembly viewer against the native one: `node view.mjs MODULE RECORDS`, where RECORDS comes from the example
// `records` of tandem-codec. Every outcome and every pixel must be the same.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const [modulePath, recordsPath] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(modulePath));
assert.deepEqual(WebAssembly.Module.imports(module), [], 'the module needs nothing from its host');
const wasm = new WebAssembly.Instance(module).exports;
assert.equal(wasm.view_interface(), 3);

const words = [
  'picture', 'width', 'height', 'layoutGeneration', 'rects', 'rectCount', 'shown', 'rendition', 'segment',
  'seqLow', 'seqHigh', 'recordSeqLow', 'recordSeqHigh', 'recordTimeLow', 'recordTimeHigh', 'recordBody',
  'error', 'errorLen', 'videos', 'videoCount', 'regions',
];
function report(view) {
  const values = new Uint32Array(wasm.memory.buffer, wasm.view_report(view), words.length);
  return Object.fromEntries(words.map((word, i) => [word, values[i]]));
}
function apply(view, lane, record) {
  const at = wasm.view_input(view, record.length);
  new Uint8Array(wasm.memory.buffer, at, record.length).set(record);
  return wasm.view_apply(view, lane);
}
const text = (at, len) => new TextDecoder().decode(new Uint8Array(wasm.memory.buffer, at, len));

const file = readFileSync(recordsPath);
const view = wasm.view_new(0, 0);
const counts = [0, 0, 0, 0];
let at = 0;
let canvas = new Uint8Array(0);
while (at < file.length) {
  const lane = file[at];
  const length = file.readUInt32LE(at + 1);
  const record = file.subarray(at + 5, at + 5 + length);
  at += 5 + length;
  const expected = file[at++];
  const outcome = apply(view, lane, record);
  const now = report(view);
  assert.equal(outcome, expected, `outcome of record ${counts}: ${text(now.error, now.errorLen)}`);
  counts[outcome] += 1;
  assert.equal(now.recordTimeHigh, 2, 'the time of the record is passed on');
  if (outcome !== 0) continue;
  const [width, height] = [file.readUInt32LE(at), file.readUInt32LE(at + 4)];
  assert.deepEqual([now.width, now.height, now.shown], [width, height, 1]);
  const pixels = file.subarray(at + 8, at + 8 + width * height * 4);
  at += 8 + pixels.length;
  const shown = new Uint8Array(wasm.memory.buffer, now.picture, pixels.length);
  assert.ok(pixels.equals(shown), 'every pixel as in the native viewer');
  // The rectangles tell all that changed: a canvas that is painted by them shows the same.
  if (canvas.length !== pixels.length) canvas = new Uint8Array(pixels.length);
  const rects = new Uint16Array(wasm.memory.buffer, now.rects, now.rectCount * 4);
  for (let i = 0; i < rects.length; i += 4) {
    const [x, y, w, h] = rects.subarray(i, i + 4);
    for (let row = y; row < y + h; row++) {
      const start = (row * width + x) * 4;
      canvas.set(shown.subarray(start, start + w * 4), start);
    }
  }
  assert.ok(pixels.equals(canvas), 'the rectangles cover all that changed');
}
assert.ok(counts.every((count) => count > 0), `each outcome came up: ${counts}`);

assert.equal(apply(view, 6, new Uint8Array([1, 2, 3])), 4, 'no record');
assert.notEqual(report(view).errorLen, 0);
assert.equal(apply(view, 1, new Uint8Array(60)), 4, 'no screen lane');
assert.equal(wasm.view_input(view, 2 ** 21), 0, 'no record is that long');
wasm.view_free(view);
console.log(`${counts[0]} applied, ${counts[1]} held, ${counts[2]} skipped, ${counts[3]} lost: all as native; `
  + `memory ${wasm.memory.buffer.byteLength / 2 ** 20} MB`);
