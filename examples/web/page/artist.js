// SPDX-License-Identifier: Apache-2.0
// The page's side of the worker: one drawing at a time, the newest first; what nobody wants any more is dropped or cancelled.

export class Artist {
  #worker = null;
  #shared = null;   // its first number: the drawing to cancel
  #options;
  #on;
  #next = 1;
  #running = null;  // { id, request, resolve, reject, settle }
  #wanted = null;   // the newest request, not begun
  #others = [];     // of less importance: variations
  #starts = [];     // when workers were started after a failure
  ready = null;     // what the model says of itself, once it is open

  // on: { progress(loaded, total), ready(facts), broken(message) }
  constructor(options, on) {
    this.#options = options;
    this.#on = on;
    this.#start();
  }

  #start() {
    const isolated = globalThis.crossOriginIsolated === true && typeof SharedArrayBuffer !== 'undefined';
    this.#shared = isolated ? new Int32Array(new SharedArrayBuffer(4)) : null;
    const cores = Math.min(navigator.hardwareConcurrency || 1, 4);
    const threads = isolated ? Math.min(this.#options.threads || cores, cores) : 1;
    this.ready = null;
    const worker = new Worker('worker.js');
    this.#worker = worker;
    worker.onmessage = ({ data }) => worker === this.#worker && this.#hear(data);
    worker.onerror = (event) => {
      event.preventDefault();
      if (worker === this.#worker) this.#fail(event.message || 'the worker could not be loaded');
    };
    worker.onmessageerror = () => worker === this.#worker && this.#fail('a message could not be read');
    worker.postMessage({ type: 'open', threads, format: this.#options.format, model: this.#options.model,
                         shared: this.#shared && this.#shared.buffer });
  }

  // By hand, after a failure.
  restart() {
    this.#starts = [];
    this.#restart();
  }
  #restart() {
    this.#worker.terminate();
    const lost = this.#running;
    this.#running = null;
    if (lost) lost.resolve(null);
    this.#start();
  }

  // A worker that fails is started again, three times in a minute; then people decide.
  #fail(message) {
    const now = performance.now();
    this.#starts = this.#starts.filter((t) => now - t < 60000);
    const again = this.ready !== null && this.#starts.length < 3;
    if (again) {
      this.#starts.push(now);
      if (this.#running && !this.#wanted) {  // once more: a request that always fails meets the limit
        this.#wanted = this.#running;
        this.#running = null;
      }
      this.#on.restarted?.(message);
      this.#restart();
    } else {
      this.#worker.terminate();
      const lost = [this.#running, this.#wanted, ...this.#others].filter(Boolean);
      this.#running = this.#wanted = null;
      this.#others = [];
      for (const job of lost) job.resolve(null);
      this.#on.broken(message);
    }
  }

  #hear(data) {
    if (data.type === 'progress') return this.#on.progress(data.loaded, data.total);
    if (data.type === 'ready') {
      this.ready = data;
      this.#on.ready(data);
      return this.#go();
    }
    if (data.type === 'error' && data.fatal) return this.#fail(data.message);
    const job = this.#running;
    if (!job || data.id !== job.id) return;
    if (data.type === 'preview') return job.request.onPreview?.(data);
    this.#running = null;
    if (data.type === 'error') job.reject(new Error(data.message));
    else job.resolve(data.type === 'picture' ? data : null);
    this.#go();
  }

  #go() {
    if (this.#running || !this.ready) return;
    const job = this.#wanted || this.#others.shift();
    if (!job) return;
    if (job === this.#wanted) this.#wanted = null;
    job.id = this.#next++;
    this.#running = job;
    const { prompt, seed, steps, picture, mask, strength, onPreview } = job.request;
    this.#worker.postMessage({ type: 'draw', id: job.id, prompt, seed, steps, picture, mask, strength: strength || 0,
                               previews: Boolean(onPreview) });
  }

  #job(request) {
    const job = { request };
    job.promise = new Promise((resolve, reject) => Object.assign(job, { resolve, reject }));
    return job;
  }

  // The picture { rgb, ms, times, parts, strange }, or null where a newer request came between or it was cancelled. Rejects with
  // what the library says of a wrong request.
  draw(request) {
    this.#others.splice(0).forEach((job) => job.resolve(null));
    this.#wanted?.resolve(null);
    if (this.#running) this.#ask_to_stop();
    this.#wanted = this.#job(request);
    const { promise } = this.#wanted;
    this.#go();
    return promise;
  }
  // When nothing else is to be done.
  drawLater(request) {
    const job = this.#job(request);
    this.#others.push(job);
    this.#go();
    return job.promise;
  }
  get busy() { return this.#running !== null || this.#wanted !== null; }

  #ask_to_stop() {
    if (this.#shared) Atomics.store(this.#shared, 0, this.#running.id);
  }
  // Without shared memory a worker that draws hears nothing: it is ended, and another one loads the model anew.
  cancel() {
    this.#others.splice(0).forEach((job) => job.resolve(null));
    this.#wanted?.resolve(null);
    this.#wanted = null;
    if (!this.#running) return;
    if (this.#shared) this.#ask_to_stop();
    else this.#restart();
  }
}
