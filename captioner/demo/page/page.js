// The page: reads a photo, requests a caption from the server for each model, and shows each on a card.

import { makeCard } from "./card.js";
import { element, explainSearch, hideError, listenForPhotos, scrollToCards, showCaptioned, showError, showStatus } from "./photo_page.js";

const form = element("search");

let info = null; // the server's models, limits and default search
let ready = null; // a promise that is settled when `info` is there; a photo that is chosen earlier waits for it
let cards = [];
let photo = null; // {file, name}
let request = new AbortController(); // of the latest request; earlier ones are canceled

async function start() {
  ready = setUp();
  await ready;
  const wanted = new URLSearchParams(location.search).get("example"); // a link to an example: /?example=0
  if (wanted !== null) await captionExample(Number(wanted));
}

async function setUp() {
  info = await (await fetchChecked("models")).json();
  element("max-size").textContent = Math.round(info.max_bytes / 1024 ** 2);
  for (const [name, value] of Object.entries(info.search)) form.elements[name].value = value;
  explainSearch();
  for (let index = 0; index < info.examples; index += 1) element("examples").append(makeExample(index));
}

/** fetch; throws an Error with the server's message where the response is not OK. */
async function fetchChecked(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is `python -m captioner demo` still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error ?? `The server answers with status ${response.status}.`);
}

function upload(path, file, signal) {
  return fetchChecked(path, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file, signal });
}

/** A new photo: show it as the server decodes it, then caption it. */
async function openPhoto(file, name) {
  request.abort();
  const { signal } = (request = new AbortController());
  hideError();
  try {
    await ready;
    if (file.size > info.max_bytes) throw new Error(`This file is too large: expected ${element("max-size").textContent} MB at most.`);
    showStatus(`Reading ${name} …`);
    const url = URL.createObjectURL(await (await upload("preview", file, signal)).blob());
    photo = { file, name };
    if (!cards.length) cards = info.models.map((model) => makeCard(model, element("cards")));
    await Promise.all(cards.map((card) => card.setPhoto(url)));
    document.body.classList.add("has-photo");
    element("again").disabled = false;
    scrollToCards();
  } catch (error) {
    if (error.name !== "AbortError") showError(`${name}: ${error.message}`);
    return;
  }
  await captionPhoto();
}

/** Request a caption from every model; each card shows its result as soon as it arrives. */
async function captionPhoto() {
  if (!photo || !form.reportValidity()) return;
  request.abort();
  const { signal } = (request = new AbortController());
  const start = performance.now();
  hideError();
  showStatus("Captioning …");
  const search = new URLSearchParams(new FormData(form));
  const ticket = Math.random().toString(36).slice(2); // of the first model's caption, whose place is shown
  const place = setInterval(() => showPlace(ticket, signal), 1000);
  await Promise.all(
    cards.map(async (card, model) => {
      card.showPending();
      try {
        const named = model ? "" : `&ticket=${ticket}`;
        card.showResult(await (await upload(`caption?model=${model}&${search}${named}`, photo.file, signal)).json());
      } catch (error) {
        if (error.name !== "AbortError") card.showError(error.message);
      }
    }),
  );
  clearInterval(place);
  if (signal.aborted) return;
  showCaptioned(photo.name, (performance.now() - start) / 1000);
}

/** While others' photos are captioned first, show how many. */
async function showPlace(ticket, signal) {
  const answer = await fetch(`line?ticket=${ticket}`, { signal }).catch(() => null);
  const { ahead } = answer?.ok ? await answer.json() : { ahead: 0 };
  if (ahead && !signal.aborted) showStatus(`Waiting: ${ahead} ${ahead === 1 ? "photo" : "photos"} before this one …`);
}

function makeExample(index) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(Object.assign(new Image(64, 64), { src: `examples/${index}`, alt: `Example ${index + 1}` }));
  button.addEventListener("click", () => captionExample(index));
  return button;
}

async function captionExample(index) {
  try {
    await openPhoto(await (await fetchChecked(`examples/${index}`)).blob(), `Example ${index + 1}`);
  } catch (error) {
    showError(error.message);
  }
}

form.addEventListener("change", () => {
  explainSearch();
  captionPhoto();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (new FormData(form).get("search") === "sample") form.elements.seed.value = Number(form.elements.seed.value) + 1;
  captionPhoto();
});
listenForPhotos(openPhoto);

start().catch((error) => showError(error.message));
