// SPDX-License-Identifier: Apache-2.0
// The prompt's field: the words that the model knows are offered for the one under the cursor (ARIA's combobox with a listbox).

const most = 8;

export class Words {
  #input;
  #list;
  #changed;
  #known = [];    // in the order in which they are offered
  #shown = [];
  #active = -1;

  // changed(): after any change of the text.
  constructor(input, list, changed) {
    this.#input = input;
    this.#list = list;
    this.#changed = changed;
    input.addEventListener('input', () => { this.#offer(); changed(); });
    input.addEventListener('keydown', (event) => this.#key(event));
    input.addEventListener('blur', () => this.close());
    input.addEventListener('click', () => this.close());
    // Before the field loses its focus.
    list.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      const item = event.target.closest('li');
      if (item) this.#take(Number(item.dataset.index));
    });
  }

  // things: "a fox / foxes"; what it draws comes first, then the other words of its captions.
  learn(words, things) {
    const nouns = things.flatMap((thing) => thing.split(' / ').map((name) => name.replace(/^(a|an|the) /, '')));
    this.#known = [...new Set([...nouns.sort((a, b) => a.length - b.length || a.localeCompare(b)), ...words])];
  }

  close() {
    this.#shown = [];
    this.#active = -1;
    this.#list.hidden = true;
    this.#input.setAttribute('aria-expanded', 'false');
    this.#input.removeAttribute('aria-activedescendant');
  }

  // The word under the cursor: where it begins, and as far as it is typed.
  #word() {
    const end = this.#input.selectionStart;
    const before = this.#input.value.slice(0, end);
    return { begin: before.search(/[^\s,]*$/), end, text: before.match(/[^\s,]*$/)[0].toLowerCase() };
  }

  #offer() {
    const { text } = this.#word();
    this.close();
    if (text.length < 2 || /\S/.test(this.#input.value.charAt(this.#input.selectionStart))) return;
    const found = this.#known.filter((word) => word !== text && word.startsWith(text));
    if (this.#known.includes(text) && found.length === 0) return;
    this.#shown = found.slice(0, most);
    if (this.#shown.length === 0) return;
    this.#list.replaceChildren(...this.#shown.map((word, i) => {
      const item = document.createElement('li');
      const typed = document.createElement('b');
      typed.textContent = word.slice(0, text.length);
      item.append(typed, word.slice(text.length));
      item.id = `word-${i}`;
      item.setAttribute('role', 'option');
      item.setAttribute('aria-selected', 'false');
      item.dataset.index = i;
      return item;
    }));
    this.#list.hidden = false;
    this.#input.setAttribute('aria-expanded', 'true');
  }

  #mark(index) {
    const items = [...this.#list.children];
    this.#active = index;
    items.forEach((item, i) => item.setAttribute('aria-selected', String(i === index)));
    this.#input.setAttribute('aria-activedescendant', items[index].id);
  }

  #take(index) {
    const { begin, end } = this.#word();
    const word = this.#shown[index], rest = this.#input.value.slice(end);
    this.#input.value = `${this.#input.value.slice(0, begin)}${word}${rest}`;
    this.#input.setSelectionRange(begin + word.length, begin + word.length);
    this.close();
    this.#changed();
  }

  #key(event) {
    if (this.#list.hidden) return;
    const last = this.#shown.length - 1;
    if (event.key === 'ArrowDown' || event.key === 'ArrowRight' && this.#active >= 0) this.#mark(this.#active < last ? this.#active + 1 : 0);
    else if (event.key === 'ArrowUp' || event.key === 'ArrowLeft' && this.#active >= 0) this.#mark(this.#active > 0 ? this.#active - 1 : last);
    else if (event.key === 'Enter' && this.#active >= 0) this.#take(this.#active);
    else if (event.key === 'Tab' && !event.shiftKey && this.#active >= 0) this.#take(this.#active);
    else if (event.key === 'Escape') this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
