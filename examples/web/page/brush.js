// SPDX-License-Identifier: Apache-2.0
// Painting on the picture, by pointer or by keys: arrows move the brush (Shift: further), space and Enter paint.

export class Brush {
  #canvas;
  #ring;
  #target = null;  // CanvasRenderingContext2D that is painted on; null: off
  #colour = '#000';
  #size = 12;      // pixels of the picture
  #last = null;
  #at = { x: 64, y: 64 };
  #done;

  // done(): after each stroke. begin(): before it.
  constructor(canvas, ring, { begin, done }) {
    this.#canvas = canvas;
    this.#ring = ring;
    this.#done = done;
    canvas.addEventListener('pointerdown', (event) => {
      if (!this.#target || event.button !== 0) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
      begin();
      this.#last = this.#place(event);
      this.#line(this.#last, this.#last);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!this.#target) return;
      const points = this.#last && event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const one of points.length > 0 ? points : [event]) {
        const to = this.#place(one);
        if (this.#last) this.#line(this.#last, to);
        if (this.#last) this.#last = to;
        this.#at = to;
      }
      this.#show();
    });
    const end = () => {
      if (!this.#last) return;
      this.#last = null;
      done();
    };
    canvas.addEventListener('pointerup', end);
    canvas.addEventListener('pointercancel', end);
    canvas.addEventListener('pointerleave', () => { if (!this.#last) ring.hidden = true; });
    canvas.addEventListener('blur', () => { ring.hidden = true; });
    canvas.addEventListener('keydown', (event) => {
      if (!this.#target) return;
      const step = event.shiftKey ? 16 : 4;
      const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (move) {
        this.#at = { x: Math.min(Math.max(this.#at.x + move[0], 0), canvas.width), y: Math.min(Math.max(this.#at.y + move[1], 0), canvas.height) };
        this.#show();
      } else if (event.key === ' ' || event.key === 'Enter') {
        begin();
        this.#line(this.#at, this.#at);
        this.#show();
        done();
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  use(target, colour) {
    this.#target = target;
    this.#colour = colour;
    if (!target) this.#ring.hidden = true;
  }
  set size(pixels) {
    this.#size = pixels;
    if (!this.#ring.hidden) this.#show();
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width * this.#canvas.width, y: (event.clientY - box.top) / box.height * this.#canvas.height };
  }
  #show() {
    const share = (n) => `${n / this.#canvas.width * 100}%`;
    Object.assign(this.#ring.style, { left: share(this.#at.x), top: share(this.#at.y), width: share(this.#size), height: share(this.#size) });
    this.#ring.hidden = false;
  }
  #line(from, to) {
    const context = this.#target;
    context.strokeStyle = this.#colour;
    context.lineWidth = this.#size;
    context.lineCap = context.lineJoin = 'round';
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.01, to.y);
    context.stroke();
    this.#at = to;
  }
}
