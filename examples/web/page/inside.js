// SPDX-License-Identifier: Apache-2.0
// The panel that shows the static graph: its stages, their parts with their parameters, and where the time of the last picture went.

const stages = [
  { name: 'Text encoder', network: 'text_encoder', note: 'words to 192 numbers each' },
  { name: 'UNet', network: 'unet', note: 'noise to a latent picture of 16 x 16' },
  { name: 'Decoder', network: 'vae', note: 'latents to 128 x 128 pixels' },
];
const names = { text_model: 'layers', down_blocks: 'way down', mid_block: 'middle', up_blocks: 'way up', add_embedding: 'embeddings',
                time_embedding: 'embeddings', conv_in: 'ends', conv_out: 'ends', conv_norm_out: 'ends', decoder: 'decoder',
                encoder: 'encoder, for drawing on pictures' };
const count = (n) => n >= 1e6 ? `${(n / 1e6).toFixed(2)} M` : `${Math.round(n / 1e3)} k`;
const element = (tag, text, name) => {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (name) e.className = name;
  return e;
};

export class Inside {
  #stages;
  #facts;
  #rows = [];

  constructor(stages_list, facts) {
    this.#stages = stages_list;
    this.#facts = facts;
  }

  describe(facts) {
    this.#rows = [];
    this.#stages.replaceChildren(...stages.map(({ name, network, note }) => {
      const item = element('li'), ms = element('p', '\u00a0', 'ms'), bar = element('div', undefined, 'bar'), list = element('ul');
      bar.append(element('i'));
      const grouped = {};
      for (const [part, n] of Object.entries(facts.parts[network] || {})) {
        const group = names[part] || part;
        grouped[group] = (grouped[group] || 0) + n;
      }
      for (const [group, n] of Object.entries(grouped)) {
        const row = element('li');
        row.append(element('span', group), element('span', count(n)));
        list.append(row);
      }
      item.append(element('h3', name), element('p', note, 'hint'), ms, bar, list);
      this.#rows.push({ ms, bar });
      return item;
    }));
    const all = Object.values(facts.parts).flatMap((parts) => Object.values(parts)).reduce((a, b) => a + b, 0);
    this.#facts.replaceChildren(...Object.entries({
      Parameters: count(all),
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

  // times: milliseconds of text encoder, UNet, decoder, encoder.
  show([text, unet, decoder, encoder]) {
    const all = text + unet + decoder + encoder;
    [text, unet, decoder + encoder].forEach((ms, i) => {
      const row = this.#rows[i];
      if (!row) return;
      row.ms.textContent = `${ms.toFixed(1)} ms`;
      row.bar.style.setProperty('--share', `${all > 0 ? ms / all * 100 : 0}%`);
    });
  }
}
