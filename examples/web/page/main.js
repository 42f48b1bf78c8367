// SPDX-License-Identifier: Apache-2.0
// The page: what is typed, turned and painted becomes requests to the worker, and its answers pictures.
import { Artist } from './artist.js';
import { Brush } from './brush.js';
import { Dial } from './dial.js';
import { Inside } from './inside.js';
import { pngOf } from './png.js';
import { Words } from './words.js';

const $ = (id) => document.getElementById(id);
const side = 128, variationCount = 6, mostSeed = 999999;
const pause = { typing: 120, variations: 350, announcement: 900 };  // milliseconds
const formats = { fp32: 0, bf16: 1, int8: 2 };
const swatches = { white: '#ffffff', black: '#1c1c1c', red: '#e53935', orange: '#fb8c00', yellow: '#fdd835', green: '#43a047', 'light blue': '#a5d8ff',
                   blue: '#1e63d8', purple: '#8e44ad', pink: '#f8a5c2', brown: '#795548' };
const tries = ['three penguins', 'an owl on a teal background', 'a butterfly above a sunflower', 'a cactus on a pink background',
               'a hamburger'];
const help = {
  words: 'A new picture at every pause in your typing.',
  draw: 'Paint on the picture; the words say what becomes of it.',
  mask: 'Paint over what shall be drawn anew; the rest stays.',
};

const canvas = $('picture'), overlay = $('overlay');
const context = canvas.getContext('2d', { willReadFrequently: true }), maskContext = overlay.getContext('2d', { willReadFrequently: true });
const query = new URLSearchParams(location.search);

const state = { mode: 'words', seed: 7, steps: 1, base: null, entered: null, shown: null, drawnWith: null };
let history = [];

// Pictures as bytes [height][width][3], and on canvases.
function put(target, rgb) {
  const image = target.createImageData(side, side);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    image.data[j] = rgb[i];
    image.data[j + 1] = rgb[i + 1];
    image.data[j + 2] = rgb[i + 2];
    image.data[j + 3] = 255;
  }
  target.putImageData(image, 0, 0);
}
function pixels() {
  const { data } = context.getImageData(0, 0, side, side);
  const rgb = new Uint8Array(side * side * 3);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) rgb.set(data.subarray(j, j + 3), i);
  return rgb;
}
function mask() {
  const { data } = maskContext.getImageData(0, 0, side, side);
  const bytes = new Uint8Array(side * side);
  for (let i = 0; i < bytes.length; ++i) bytes[i] = data[4 * i + 3];
  return bytes.some((opacity) => opacity > 0) ? bytes : null;
}
const clearMask = () => maskContext.clearRect(0, 0, side, side);

// What people are told.
let announcement = 0;
function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => { $('status').textContent = text; }, pause.announcement);
}
function hint(text, warn = false) {
  $('hint').textContent = text;
  $('hint').classList.toggle('warn', warn);
}
function problem(text) {
  $('problem').hidden = !text;
  $('problem-text').textContent = text || '';
}

const artist = { current: null };
const inside = new Inside($('stages'), $('facts'));

// A request of what is set now; null: there is nothing to draw.
function request(seed = state.seed) {
  const common = { prompt: $('prompt').value.trim(), seed, steps: state.steps };
  if (state.mode === 'words') return common;
  if (!state.base) return null;
  if (state.mode === 'draw') return { ...common, picture: state.base, strength: Number($('strength').value) / 100 };
  const painted = mask();
  return painted && { ...common, steps: Math.max(state.steps, 4), picture: state.base, mask: painted, strength: 1 };
}

let waiting = 0, variations = 0, stopping = 0;
function redrawSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(redraw, pause.typing);
}
async function redraw() {
  clearTimeout(waiting);
  clearTimeout(variations);
  remember();
  if (!artist.current?.ready) return;
  const wanted = request();
  if (!wanted) return;
  const onPreview = wanted.steps > 2 && !wanted.mask ? ({ rgb }) => put(context, rgb) : undefined;
  clearTimeout(stopping);
  stopping = setTimeout(() => { $('stop').hidden = !artist.current.busy; }, 250);
  canvas.setAttribute('aria-busy', 'true');
  let drawn = null;
  try {
    drawn = await artist.current.draw({ ...wanted, onPreview });
  } catch (error) {
    hint(error.message, true);
    announce(error.message);
  }
  if (!artist.current.busy) {
    $('stop').hidden = true;
    canvas.removeAttribute('aria-busy');
  }
  if (!drawn) {
    if (state.shown && !artist.current.busy) put(context, state.shown);
    return;
  }
  show(drawn, wanted);
  clearTimeout(variations);
  variations = setTimeout(vary, pause.variations);
}

function show(drawn, wanted) {
  state.shown = drawn.rgb;
  state.drawnWith = wanted;
  put(context, drawn.rgb);
  $('frame').classList.add('settled');
  const threads = artist.current.ready.threads, steps = wanted.steps;
  const number = document.createElement('span');
  number.className = 'number';
  number.textContent = Math.round(drawn.ms);
  $('took').replaceChildren(number, ` ms, ${threads === 1 ? 'one thread' : `${threads} threads`}, ${steps === 1 ? 'one step' : `${steps} steps`}`);
  $('took').dataset.ms = drawn.ms.toFixed(2);
  $('took').dataset.count = Number($('took').dataset.count || 0) + 1;
  canvas.setAttribute('aria-label', `Picture: ${wanted.prompt || 'without words'}`);
  announce(`Drawn in ${Math.round(drawn.ms)} milliseconds: ${wanted.prompt || 'a picture without words'}`);
  hint(drawn.strange, Boolean(drawn.strange));
  $('download').disabled = false;
  inside.show(drawn.times, drawn.parts);
}

// Other seeds of what is shown.
async function vary() {
  const buttons = [...$('variations').children];
  await Promise.all(buttons.map(async (button, i) => {
    const seed = (state.seed + i + 1) % (mostSeed + 1), wanted = request(seed);
    if (!wanted) return;
    const drawn = await artist.current.drawLater(wanted).catch(() => null);
    if (!drawn) return;
    put(button.firstChild.getContext('2d'), drawn.rgb);
    button.dataset.seed = seed;
    button.disabled = false;
    button.setAttribute('aria-label', `Take seed ${seed}`);
    button.title = `Seed ${seed}`;
  }));
}

function setSeed(seed) {
  state.seed = Math.min(Math.max(Math.trunc(seed) || 0, 0), mostSeed);
  $('seed').value = state.seed;
  dial.value = state.seed;
}

// Undo.
function snapshot() {
  return { base: state.base, shown: state.shown, mask: maskContext.getImageData(0, 0, side, side), mode: state.mode };
}
function push() {
  history.push(snapshot());
  if (history.length > 40) history.shift();
  $('undo').disabled = false;
}
function undo() {
  const before = history.pop();
  $('undo').disabled = history.length === 0;
  if (!before || before.mode !== state.mode) return;
  artist.current?.cancel();
  state.base = before.base;
  state.shown = before.shown;
  maskContext.putImageData(before.mask, 0, 0);
  if (state.shown) put(context, state.shown);
}

// Modes.
function enter(mode) {
  state.mode = mode;
  history = [];
  $('undo').disabled = true;
  clearMask();
  const paints = mode !== 'words';
  $('brush-panel').hidden = $('undo').hidden = !paints;
  $('colours').hidden = $('strength-row').hidden = mode !== 'draw';
  $('mode-help').textContent = help[mode];
  $('frame').classList.toggle('painting', paints);
  canvas.tabIndex = paints ? 0 : -1;
  if (paints) {
    canvas.removeAttribute('role');
    canvas.setAttribute('role', 'application');
    canvas.setAttribute('aria-roledescription', 'picture to paint on: arrow keys move the brush, space paints');
  } else {
    canvas.setAttribute('role', 'img');
    canvas.removeAttribute('aria-roledescription');
  }
  state.base = state.entered = paints ? state.shown : null;
  chooseBrush();
  if (!paints) redraw();
}
function chooseBrush() {
  const colour = document.querySelector('#colours input:checked').value;
  brush.size = Number($('brush').value);
  brush.use(state.mode === 'words' || !state.base ? null : state.mode === 'draw' ? context : maskContext,
            state.mode === 'draw' ? colour : getComputedStyle(document.documentElement).getPropertyValue('--accent'));
}
const brush = new Brush(canvas, $('brush-ring'), {
  begin: () => {
    clearTimeout(waiting);
    clearTimeout(variations);
    push();
    if (state.mode === 'draw' && state.shown) put(context, state.shown);
    $('frame').classList.remove('settled');
  },
  done: () => {
    if (state.mode === 'draw') state.base = state.shown = pixels();
    redraw();
  },
});

const dial = new Dial($('dial'), mostSeed, (seed) => {
  setSeed(seed);
  redrawSoon();
});
const words = new Words($('prompt'), $('words'), redrawSoon);

// What is typed and turned, in the address: a reload and a link show the same.
function remember() {
  const all = new URLSearchParams({ prompt: $('prompt').value, seed: state.seed, steps: state.steps });
  try {
    window.history.replaceState(null, '', `#${all}`);
  } catch { /* some browsers allow no more than so many in a time */ }
}
function recall() {
  const all = new URLSearchParams(location.hash.slice(1));
  if (all.has('prompt')) $('prompt').value = all.get('prompt').slice(0, 400);
  setSeed(Number(all.get('seed') ?? state.seed));
  const steps = document.querySelector(`input[name="steps"][value="${Number(all.get('steps'))}"]`);
  if (steps) steps.checked = true;
  state.steps = Number(document.querySelector('input[name="steps"]:checked').value);
}

async function download() {
  const w = state.drawnWith;
  if (!w) return;
  const texts = { prompt: w.prompt, seed: String(w.seed), steps: String(w.steps) };
  if (w.picture) texts.strength = String(w.strength);
  Object.assign(texts, { format: query.get('format') in formats ? query.get('format') : 'int8', model: 'emoji_one_step.safetensors',
                         software: `mobilediffusion ${artist.current.ready.version}` });
  try {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await pngOf(canvas, texts));
    link.download = `${w.prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 60) || 'picture'}-${w.seed}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    announce(`Saved as ${link.download}`);
  } catch (error) {
    problem(error.message);
  }
}

// The page controls what the worker is offered, so that its files are kept for the next visit, and once only.
async function keepOffline() {
  if (!('serviceWorker' in navigator) || !window.isSecureContext) return;
  try {
    const controlled = navigator.serviceWorker.controller ||
      new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true }));
    await navigator.serviceWorker.register('sw.js');
    await Promise.race([controlled, new Promise((resolve) => setTimeout(resolve, 4000))]);
  } catch { /* then it works with a network only */ }
}

function start() {
  problem('');
  $('loading').hidden = false;
  if (artist.current) return artist.current.restart();
  artist.current = new Artist({ threads: Number(query.get('threads')) || 0, format: formats[query.get('format')] ?? formats.int8, model: 'model.safetensors' }, {
    progress: (loaded, total) => {
      const bar = $('loading-bar'), megabytes = (n) => (n / 1e6).toFixed(1);
      if (total > 0) bar.value = loaded / total;
      else bar.removeAttribute('value');
      $('loading-text').textContent = total > 0 ? `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB` : `Loading the model: ${megabytes(loaded)} MB`;
    },
    ready: (facts) => {
      $('loading').hidden = true;
      problem('');
      words.learn(facts.words, facts.things);
      inside.describe(facts);
      redraw();
    },
    restarted: (message) => announce(`The worker failed and was started again: ${message}`),
    broken: (message) => {
      $('loading').hidden = true;
      $('stop').hidden = true;
      problem(`Drawing does not work: ${message}`);
    },
  });
  return undefined;
}

// Controls.
$('colours').append(...Object.entries(swatches).map(([name, value], i) => {
  const label = document.createElement('label'), input = document.createElement('input'), spot = document.createElement('span');
  Object.assign(input, { type: 'radio', name: 'colour', value, checked: i === 2 });
  input.setAttribute('aria-label', name);
  label.title = name;
  spot.style.setProperty('--swatch', value);
  label.append(input, spot);
  return label;
}));
$('tries').append(...tries.map((text) => {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = text;
  button.addEventListener('click', () => {
    $('prompt').value = text;
    redraw();
  });
  return button;
}));
$('variations').append(...Array.from({ length: variationCount }, () => {
  const button = document.createElement('button'), small = document.createElement('canvas');
  button.type = 'button';
  button.disabled = true;
  button.setAttribute('aria-label', 'A variation, not drawn yet');
  small.width = small.height = side;
  button.append(small);
  return button;
}));
$('variations').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button?.dataset.seed) return;
  setSeed(Number(button.dataset.seed));
  redraw();
});
$('seed').addEventListener('input', () => { setSeed(Number($('seed').value)); redrawSoon(); });
$('shuffle').addEventListener('click', () => { setSeed(Math.floor(Math.random() * (mostSeed + 1))); redraw(); });
for (const radio of document.querySelectorAll('input[name="steps"]'))
  radio.addEventListener('change', () => { state.steps = Number(radio.value); redraw(); });
for (const radio of document.querySelectorAll('input[name="mode"]')) radio.addEventListener('change', () => enter(radio.value));
$('colours').addEventListener('change', chooseBrush);
$('brush').addEventListener('input', chooseBrush);
$('strength').addEventListener('input', () => { $('strength-value').textContent = `${$('strength').value} %`; redrawSoon(); });
$('undo').addEventListener('click', undo);
$('stop').addEventListener('click', () => artist.current.cancel());
$('download').addEventListener('click', download);
$('retry').addEventListener('click', start);
$('keep').addEventListener('click', () => {
  push();
  state.base = state.entered = state.shown;
  clearMask();
});
$('clear').addEventListener('click', () => {
  push();
  artist.current.cancel();
  clearMask();
  state.base = state.shown = state.entered;
  if (state.shown) put(context, state.shown);
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && artist.current?.busy) artist.current.cancel();
  if ((event.ctrlKey || event.metaKey) && event.key === 'z' && state.mode !== 'words' && event.target !== $('prompt')) {
    event.preventDefault();
    undo();
  }
});
window.addEventListener('hashchange', () => { recall(); redraw(); });
window.addEventListener('error', (event) => problem(event.message));
window.addEventListener('unhandledrejection', (event) => problem(event.reason?.message || String(event.reason)));

document.querySelector('input[name="mode"][value="words"]').checked = true;  // some browsers keep a form's state over a reload
recall();
enter('words');
keepOffline().then(start);
