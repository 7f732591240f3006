// The page: takes a photo in, asks the server what each model makes of it, and shows that on a card a model.

import { makeCard } from "./card.js";

const EXPLANATIONS = {
  greedy: "At each step the most probable word.",
  beam: "The most probable beginnings are carried along together; the best captions found are listed.",
  sample: "Each word is drawn from the model's distribution; another draw number gives another caption.",
};
const element = (id) => document.getElementById(id);
const form = element("search");

let info = null; // what the server says of itself: models, limits, the usual search
let ready = null; // a promise: settled when `info` is there; whoever is faster than the server waits for it
let cards = [];
let photo = null; // {file, name}
let question = new AbortController(); // the latest; earlier ones are given up

async function start() {
  ready = setUp();
  await ready;
  const wanted = new URLSearchParams(location.search).get("example"); // a link to an example: /?example=0
  if (wanted !== null) await takeExample(Number(wanted));
}

async function setUp() {
  info = await (await ask("models")).json();
  element("most").textContent = Math.round(info.most_bytes / 1024 ** 2);
  for (const [name, value] of Object.entries(info.search)) form.elements[name].value = value;
  explainSearch();
  for (let number = 0; number < info.examples; number += 1) element("examples").append(makeExample(number));
}

/** fetch, with the server's sentence as the error where it refuses. */
async function ask(path, options) {
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

function send(path, file, signal) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file, signal });
}

/** A new photo: show it as the server decodes it, then have it captioned. */
async function take(file, name) {
  question.abort();
  const { signal } = (question = new AbortController());
  hideError();
  try {
    await ready;
    if (file.size > info.most_bytes) throw new Error(`This file is too large: expected ${element("most").textContent} MB at most.`);
    say(`Reading ${name} …`);
    const url = URL.createObjectURL(await (await send("preview", file, signal)).blob());
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

/** Ask every model; each card shows its answer as soon as it is there. */
async function captionPhoto() {
  if (!photo || !form.reportValidity()) return;
  question.abort();
  const { signal } = (question = new AbortController());
  const start = performance.now();
  hideError();
  say("Captioning …");
  const search = new URLSearchParams(new FormData(form));
  await Promise.all(
    cards.map(async (card, model) => {
      card.wait();
      try {
        card.show(await (await send(`caption?model=${model}&${search}`, photo.file, signal)).json());
      } catch (error) {
        if (error.name !== "AbortError") card.fail(error.message);
      }
    }),
  );
  if (signal.aborted) return;
  document.body.dataset.answered = photo.name;
  const captions = [...document.querySelectorAll(".caption")].map((said) => said.getAttribute("aria-label")).filter(Boolean);
  say(`${photo.name}, captioned in ${((performance.now() - start) / 1000).toFixed(1)} s.`, captions.join(" "));
}

/** On a phone the photo is below the controls: bring it up, so that what follows can be seen. */
function scrollToCards() {
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const isBelow = element("cards").getBoundingClientRect().top > innerHeight / 2;
  if (isBelow) element("status").scrollIntoView({ behavior: isCalm ? "instant" : "smooth" });
}

/** The visible status, and what a screen reader is told besides. */
function say(text, more = "") {
  element("status").textContent = text;
  if (more) element("status").append(Object.assign(document.createElement("span"), { className: "unseen", textContent: ` ${more}` }));
}

function showError(sentence) {
  say("");
  element("error").textContent = sentence;
  element("error").hidden = false;
}

function hideError() {
  element("error").hidden = true;
}

function makeExample(number) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(Object.assign(new Image(64, 64), { src: `examples/${number}`, alt: `Example ${number + 1}` }));
  button.addEventListener("click", () => takeExample(number));
  return button;
}

async function takeExample(number) {
  try {
    await take(await (await ask(`examples/${number}`)).blob(), `Example ${number + 1}`);
  } catch (error) {
    showError(error.message);
  }
}

function explainSearch() {
  const { search } = Object.fromEntries(new FormData(form));
  element("explanation").textContent = EXPLANATIONS[search];
  for (const label of form.querySelectorAll("[data-search]")) label.hidden = label.dataset.search !== search;
}

function takeFirst(files) {
  const [file] = [...files];
  if (file) take(file, file.name || "The pasted image");
  else showError("That was no file: drop an image file, or copy an image and paste it.");
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
element("file").addEventListener("change", (event) => {
  takeFirst(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) takeFirst(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || element("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  takeFirst(event.dataTransfer.files);
});

start().catch((error) => showError(error.message));
