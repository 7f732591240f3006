// The page without a server: loads the model, reads a photo, and captions it in this browser.

import { Camera } from "./camera.js";
import { CaptionerWorker } from "./captioner_worker.js";
import { makeCard } from "./card.js";
import { decodePhoto, makePreview } from "./photo.js";
import { element, explainSearch, hideError, listenForPhotos, scrollToCards, showCaptioned, showError, showStatus } from "./photo_page.js";

const MOST_CAPTIONS = 10; // per search
// A function that makes a vector of 16 bytes: whether it is valid says whether the browser has SIMD.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];
const form = element("search");
const camera = new Camera(element("video"));

/** The captioner, once it is loaded: {worker, model}. A photo that is chosen earlier waits for it. */
export const ready = start();

let card = null;
let photo = null; // {number, name}
let photos = 0;
let current = 0; // number of the latest request; answers to earlier ones are not shown

/** What this browser lacks; null where it has all. */
function whatIsMissing() {
  if (!globalThis.WebAssembly) return "WebAssembly, which this page needs";
  if (!WebAssembly.validate(new Uint8Array(SIMD))) return "WebAssembly SIMD, which this page needs";
  if (!globalThis.OffscreenCanvas || !globalThis.createImageBitmap) return "OffscreenCanvas, which this page needs";
  return null;
}

async function start() {
  const missing = whatIsMissing();
  if (missing) throw new Error(`This browser does not have ${missing}. Use a newer one: Chrome or Edge 91, Firefox 114, Safari 16.4, or later.`);
  const site = await readSite();
  showSizes(site);
  const worker = new CaptionerWorker();
  const installed = keepOffline();
  const { model, offline } = await worker.load(site, showProgress);
  element("progress").hidden = true;
  for (const [name, value] of Object.entries({ search: model.decode.name, beam_width: model.decode.beam_width, length_penalty: model.decode.length_penalty })) form.elements[name].value = value;
  explainSearch();
  showNotes(model.notes);
  card = makeCard(model, element("cards"));
  element("cards").hidden = true;
  showStatus("Ready: choose a photo.");
  const reason = offline ?? (await installed);
  element("offline").textContent = reason ? `They are not kept for use without a connection: ${reason}.` : "They are kept in this browser: this page works without a connection.";
  document.body.dataset.offline = String(!reason);
  return { worker, model };
}

async function readSite() {
  try {
    return await (await fetch("site.json", { cache: "no-cache" })).json();
  } catch (error) {
    throw new Error(`site.json could not be loaded (${error.message}). Copy the whole exported folder to the server, and open this page from there.`);
  }
}

/** Why the page cannot be kept; null where it can. */
async function keepOffline() {
  if (!navigator.serviceWorker) return "this address is not secure: use https, or localhost";
  try {
    await navigator.serviceWorker.register("service_worker.js");
    await navigator.serviceWorker.ready;
    return null;
  } catch (error) {
    return error.message;
  }
}

function showProgress(loaded, total) {
  element("progress").hidden = false;
  element("progress").max = total;
  element("progress").value = loaded;
  showStatus(loaded < total ? `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} …` : "Starting the model …");
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function showSizes({ runtime, sizes }) {
  element("sizes").textContent = `Model: ${megabytes(sizes.model)}. Runtime: ${megabytes(sizes.runtime)} (onnxruntime-web ${runtime.version}). Page: ${megabytes(sizes.page)}.`;
}

function showNotes(notes) {
  element("notes").replaceChildren(...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
}

/** A new photo: show it, then caption it. */
async function openPhoto(file, name) {
  const request = (current += 1);
  hideError();
  try {
    const { worker } = await ready;
    showStatus(`Reading ${name} …`);
    const { bitmap, width, height, scaled } = await decodePhoto(file);
    const preview = await makePreview(bitmap);
    if (request !== current) return;
    photo = { number: (photos += 1), name: scaled ? `${name} (${width} × ${height}, scaled down)` : name };
    element("cards").hidden = false;
    await card.setPhoto(preview);
    document.body.classList.add("has-photo");
    element("again").disabled = false;
    scrollToCards();
    await captionPhoto(worker, bitmap, name);
  } catch (error) {
    if (request === current) showError(`${name}: ${error.message}`);
  }
}

/** Caption the photo. bitmap: null for the one that was captioned before. */
async function captionPhoto(worker, bitmap, name) {
  const request = (current += 1);
  const begin = performance.now();
  hideError();
  showStatus("Captioning …");
  card.showPending();
  try {
    const { search, beam_width, length_penalty } = Object.fromEntries(new FormData(form));
    const settings = { name: search, beam_width: Number(beam_width), length_penalty: Number(length_penalty) };
    const result = await worker.caption(photo.number, bitmap, settings, Math.min(settings.beam_width, MOST_CAPTIONS) - 1);
    if (request !== current) return;
    card.showResult(result);
    showCaptioned(photo.name, (performance.now() - begin) / 1000);
    document.body.dataset.answered = name ?? photo.name;
  } catch (error) {
    if (request === current) card.showError(error.message);
  }
}

async function searchAgain() {
  explainSearch();
  if (photo && form.reportValidity()) await captionPhoto((await ready).worker, null);
}

async function openCamera() {
  hideError();
  try {
    await camera.open();
    element("camera").hidden = false;
  } catch (error) {
    showError(error.message);
  }
}

function closeCamera() {
  camera.close();
  element("camera").hidden = true;
}

element("open-camera").addEventListener("click", openCamera);
element("close-camera").addEventListener("click", closeCamera);
element("take").addEventListener("click", async () => {
  const taken = await camera.take();
  closeCamera();
  await openPhoto(taken, "The camera's picture");
});
form.addEventListener("change", searchAgain);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  searchAgain();
});
listenForPhotos(openPhoto);
ready.catch((error) => {
  element("progress").hidden = true;
  document.body.classList.add("failed");
  showError(error.message);
});
