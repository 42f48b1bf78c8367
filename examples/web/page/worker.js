// SPDX-License-Identifier: Apache-2.0
// The model and its one session, off the page's thread. A classic worker: the module of emscripten 3.1 is no JavaScript module.
'use strict';

let module = null;
let cancelFlag = null;  // Int32Array over memory shared with the page, where there is such
let running = 0;        // the drawing's number

const reply = (message, transfer) => self.postMessage(message, transfer || []);

// Text as the module has it; free(p) afterwards.
function textOf(text) {
  const size = module.lengthBytesUTF8(text) + 1;
  const p = module._malloc(size);
  module.stringToUTF8(text, p, size);
  return p;
}
function bytesOf(bytes) {
  if (!bytes) return 0;
  const p = module._malloc(bytes.length);
  if (p === 0) throw new Error('too little memory');
  module.HEAPU8.set(bytes, p);
  return p;
}
function check(status) {
  if (status !== 0) throw new Error(module.UTF8ToString(module._web_error()) || `status ${status}`);
}
function list(count, get) {
  const model = module._web_model(), all = [];
  for (let i = 0; i < count(model); ++i) all.push(module.UTF8ToString(get(model, i)));
  return all;
}

// The whole file, with progress; some servers do not say how long it is.
async function fetchModel(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server says ${response.status}`);
  const total = response.headers.get('Content-Encoding') ? 0 : Number(response.headers.get('Content-Length')) || 0;
  const chunks = [];
  let loaded = 0;
  for (const reader = response.body.getReader();;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    loaded += value.length;
    reply({ type: 'progress', loaded, total });
  }
  const bytes = new Uint8Array(loaded);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

// The networks' parts, and what they took of the last picture.
function parts() {
  return Array.from({ length: module._web_part_count() }, (_, i) => ({
    name: module.UTF8ToString(module._web_part_name(i)),
    parameters: module._web_part_parameters(i),
    ms: module._web_part_time(i),
  }));
}

async function open({ threads, format, shared, model }) {
  const name = threads > 1 ? 'threads' : 'one_thread';
  if (shared) cancelFlag = new Int32Array(shared);
  importScripts(`${name}.js`);
  let failed = null;
  const file = fetchModel(model);
  file.catch(() => {});  // told below
  module = await new Promise((resolve, reject) => {
    createModule({
      threads,
      mainScriptUrlOrBlob: `${name}.js`,
      print: () => {},
      printErr: (text) => { failed = text; },
      onAbort: (what) => reject(new Error(`${what}`)),
    }).then(resolve, reject);
  }).catch((error) => { throw new Error(`WebAssembly with SIMD is needed: ${failed || error.message || error}`); });
  const bytes = await file;
  const begin = performance.now();
  const p = bytesOf(bytes);
  try {
    check(module._web_open(p, bytes.length, format, threads));
  } finally {
    module._free(p);
  }
  reply({
    type: 'ready',
    width: module._web_width(),
    height: module._web_height(),
    threads: module._web_threads(),
    instructions: module.UTF8ToString(module._mobilediffusion_instruction_set()),
    version: module.UTF8ToString(module._mobilediffusion_version_text()),
    words: list(module._mobilediffusion_model_word_count, module._mobilediffusion_model_word),
    things: list(module._mobilediffusion_model_thing_count, module._mobilediffusion_model_thing),
    parts: parts(),
    fileBytes: bytes.length,
    weightBytes: module._web_weight_bytes(),
    openMs: performance.now() - begin,
  });
}

function draw({ id, prompt, seed, steps, picture, mask, strength, previews }) {
  const size = 3 * module._web_width() * module._web_height();
  const pointers = [];
  const hold = (p) => (pointers.push(p), p);
  const copy = (p) => module.HEAPU8.slice(p, p + size);
  try {
    const text = hold(textOf(prompt)), rgb = hold(module._malloc(size)), begun = hold(module._malloc(size));
    running = id;
    module.onStep = (step, all) => {
      if (previews && step < all && module._web_preview(begun) === 0) {
        const so_far = copy(begun);
        reply({ type: 'preview', id, step, steps: all, rgb: so_far }, [so_far.buffer]);
      }
      return cancelFlag && Atomics.load(cancelFlag, 0) === id ? 1 : 0;
    };
    const begin = performance.now();
    const status = module._web_draw(text, seed, steps, hold(bytesOf(picture)), hold(bytesOf(mask)), strength, rgb);
    const ms = performance.now() - begin;
    if (status === 1) return reply({ type: 'cancelled', id });
    check(status);
    const result = copy(rgb);
    reply({ type: 'picture', id, rgb: result, ms, strange: module.UTF8ToString(module._web_strange(text)),
            times: [0, 1, 2, 3].map((stage) => module._web_time(stage)), parts: parts() }, [result.buffer]);
  } finally {
    pointers.forEach((p) => module._free(p));
  }
}

self.onmessage = async ({ data }) => {
  try {
    if (data.type === 'open') await open(data);
    else draw(data);
  } catch (error) {
    // What WebAssembly itself stops (memory, a bug) leaves a module that cannot be trusted.
    const fatal = data.type === 'open' || error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
    reply({ type: 'error', id: data.id, fatal, message: error.message || String(error) });
  }
};
