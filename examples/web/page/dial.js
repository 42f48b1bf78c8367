// SPDX-License-Identifier: Apache-2.0
// A wheel without an end: 15 degrees are one number. ARIA's slider: arrows, page keys, home; the mouse's wheel; dragging.

const degrees = 15;

export class Dial {
  #element;
  #value = 0;
  #most;
  #changed;

  constructor(element, most, changed) {
    this.#element = element;
    this.#most = most;
    this.#changed = changed;
    let angle = null, rest = 0;
    const angleOf = (event) => {
      const box = element.getBoundingClientRect();
      return Math.atan2(event.clientY - box.top - box.height / 2, event.clientX - box.left - box.width / 2) * 180 / Math.PI;
    };
    element.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      element.focus({ preventScroll: true });
      try { element.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
      angle = angleOf(event);
      rest = 0;
    });
    element.addEventListener('pointermove', (event) => {
      if (angle === null) return;
      const now = angleOf(event);
      rest += (now - angle + 540) % 360 - 180;
      angle = now;
      const whole = Math.trunc(rest / degrees);
      rest -= whole * degrees;
      if (whole !== 0) this.#turn(whole);
    });
    const end = () => { angle = null; };
    element.addEventListener('pointerup', end);
    element.addEventListener('pointercancel', end);
    element.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.#turn(Math.sign(event.deltaY || event.deltaX));
    }, { passive: false });
    element.addEventListener('keydown', (event) => {
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -this.#value,
                   End: most - this.#value }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      this.#turn(by);
    });
  }

  #turn(by) {
    const next = Math.min(Math.max(this.#value + by, 0), this.#most);
    if (next === this.#value) return;
    this.value = next;
    this.#changed(next);
  }
  set value(value) {
    this.#value = value;
    this.#element.style.setProperty('--turn', `${value * degrees % 360}deg`);
    this.#element.setAttribute('aria-valuenow', value);
    this.#element.setAttribute('aria-valuetext', `Seed ${value}`);
  }
}
