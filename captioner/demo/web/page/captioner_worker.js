// The page's side of `worker.js`: requests and their answers.

export class CaptionerWorker {
  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map(); // number of a request → what to do with its answer
    this.requests = 0;
    this.onProgress = () => {};
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => this.fail(event.message || "a file of the page could not be loaded. Copy the whole exported folder to the server");
  }

  /** Load the files of `site` (site.json). onProgress(loaded, total): in bytes. Returns {model, offline}. */
  load(site, onProgress) {
    this.onProgress = onProgress;
    return this.ask("load", { site });
  }

  /** Caption a photo. bitmap: an ImageBitmap, which is gone after that; null to search again for the latest photo. */
  caption(photo, bitmap, search, alternatives) {
    return this.ask("caption", { photo, bitmap, search, alternatives }, bitmap ? [bitmap] : []);
  }

  ask(kind, request, transferred = []) {
    const id = (this.requests += 1);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, kind, ...request }, transferred);
    });
  }

  receive({ id, result, error, loaded, total }) {
    if (id === undefined) return this.onProgress(loaded, total);
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    return error === undefined ? resolve(result) : reject(new Error(error));
  }

  fail(reason) {
    for (const { reject } of this.waiting.values()) reject(new Error(`The captioner stopped: ${reason}.`));
    this.waiting.clear();
  }
}
