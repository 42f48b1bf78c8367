// SPDX-License-Identifier: Apache-2.0
// The panel that shows the static graph: the networks in the order of work, their parts down to the levels of resolution with
// their parameters, and where the time of the last picture went.

const latents = 16;  // on a side
const networks = [
  { name: 'Text encoder', prefix: 'text_encoder.', note: 'words to 192 numbers each' },
  { name: 'UNet', prefix: 'unet.', note: `noise to a latent picture of ${latents} x ${latents}` },
  { name: 'Decoder', prefix: 'vae.', note: 'latents to 128 x 128 pixels' },
];
const of_size = (side) => `${side} x ${side}`;
const count = (n) => n >= 1e6 ? `${(n / 1e6).toFixed(2)} M` : n >= 1e3 ? `${Math.round(n / 1e3)} k` : `${n}`;
const milliseconds = (ms) => `${ms.toFixed(1)} ms`;
const element = (tag, text, name) => {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (name) e.className = name;
  return e;
};
const bar = () => {
  const e = element('div', undefined, 'bar');
  e.append(element('i'));
  return e;
};
const set = (row, ms, all) => {
  row.ms.textContent = milliseconds(ms);
  row.bar.style.setProperty('--share', `${all > 0 ? Math.min(100, ms / all * 100) : 0}%`);
};

// What people call a part, of `levels` resolutions of the UNet.
function label(name, levels) {
  if (name.startsWith('text_encoder.')) return 'layers';
  if (name.startsWith('vae.encoder.')) return 'encoder, for drawing on pictures';
  const unet = name.startsWith('unet.'), level = name.split('_blocks.')[1];
  if (name.includes('down_blocks')) return `down, ${of_size(latents >> level)}`;
  if (name.includes('mid_block')) return `middle, ${of_size(unet ? latents >> levels - 1 : latents)}`;
  if (name.includes('up_blocks')) return `up, ${of_size(unet ? latents >> levels - 1 - level : latents << level)}`;
  if (name.includes('embedding')) return 'step and words';
  return name.includes('conv_in') ? 'in' : 'out';
}

export class Inside {
  #stages;
  #facts;
  #networks = [];  // { ms, bar, rows: { ms, bar } by label }
  #levels = 1;

  constructor(stages_list, facts) {
    this.#stages = stages_list;
    this.#facts = facts;
  }

  describe(facts) {
    this.#levels = facts.parts.filter(({ name }) => name.startsWith('unet.down_blocks.')).length;
    this.#networks = [];
    this.#stages.replaceChildren(...networks.map(({ name, prefix, note }) => {
      const item = element('li'), ms = element('p', '\u00a0', 'ms'), share = bar(), list = element('ul'), rows = {};
      for (const [part, { parameters }] of Object.entries(this.#grouped(facts.parts, prefix))) {
        const row = element('li'), took = element('span', '\u00a0', 'took-part'), of_network = bar();
        row.append(element('span', part), element('span', count(parameters)), took, of_network);
        list.append(row);
        rows[part] = { ms: took, bar: of_network };
      }
      item.append(element('h3', name), element('p', note, 'hint'), ms, share, list);
      this.#networks.push({ ms, bar: share, rows });
      return item;
    }));
    this.#facts.replaceChildren(...Object.entries({
      Parameters: count(facts.parts.reduce((sum, { parameters }) => sum + parameters, 0)),
      'Model file': `${(facts.fileBytes / 1e6).toFixed(1)} MB`,
      'Weights in memory': `${(facts.weightBytes / 1e6).toFixed(1)} MB`,
      'Opened in': `${Math.round(facts.openMs)} ms`,
      Threads: facts.threads,
      Instructions: facts.instructions,
      Library: facts.version,
    }).map(([term, text]) => {
      const row = element('div');
      row.append(element('dt', term), element('dd', text));
      return row;
    }));
  }

  // times: milliseconds of text encoder, UNet, decoder, encoder; parts: those of the networks' parts.
  show([text, unet, decoder, encoder], parts) {
    const all = text + unet + decoder + encoder;
    [text, unet, decoder + encoder].forEach((ms, i) => {
      const network = this.#networks[i];
      if (!network) return;
      set(network, ms, all);
      for (const [part, took] of Object.entries(this.#grouped(parts, networks[i].prefix))) set(network.rows[part], took.ms, ms);
    });
  }

  // Sums of the parts that people call alike.
  #grouped(parts, prefix) {
    const groups = {};
    for (const part of parts) {
      if (!part.name.startsWith(prefix)) continue;
      const group = groups[label(part.name, this.#levels)] ||= { parameters: 0, ms: 0 };
      group.parameters += part.parameters;
      group.ms += part.ms;
    }
    return groups;
  }
}
