// Captions in a thread of their own, so that the page stays responsive. The messages are those of `captioner_worker.js`.

import { Captioner } from "./captioner.js";
import { loadFiles } from "./loader.js";

let captioner = null;
let encoded = null; // {photo, features} of the latest photo, for another search

const answers = {
  async load({ site }) {
    const { files, offline } = await loadFiles(site, (loaded, total) => self.postMessage({ loaded, total }));
    const runtime = await import(new URL(site.runtime.module, import.meta.url));
    runtime.env.wasm.numThreads = 1; // several threads need headers that a static server rarely sends
    runtime.env.wasm.wasmBinary = files.get(site.runtime.binary);
    runtime.env.logLevel = "error";
    captioner = await Captioner.create(runtime, files);
    return { model: captioner.model, offline };
  },

  async caption({ photo, bitmap, search, alternatives }) {
    if (bitmap) encoded = { photo, features: await captioner.encode(readPixels(bitmap)) };
    if (encoded?.photo !== photo) throw new Error("This photo is no longer in memory: open it again.");
    return captioner.caption(encoded.features, search, alternatives);
  },
};

/** The RGBA pixels of a bitmap, on white where it is transparent. */
function readPixels(bitmap) {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data };
}

let turn = Promise.resolve(); // one request after the other

async function answer({ id, kind, ...request }) {
  try {
    self.postMessage({ id, result: await answers[kind](request) });
  } catch (error) {
    self.postMessage({ id, error: error.message || String(error) });
  }
}

self.onmessage = ({ data }) => {
  turn = turn.then(() => answer(data));
};
