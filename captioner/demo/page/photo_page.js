// What the demo page and the page without a server share: messages, the search form, and how a photo is given.

const EXPLANATIONS = {
  greedy: "Takes the most probable word at each step.",
  beam: "Keeps the most probable partial captions at each step, and lists the best captions.",
  sample: "Samples each word from the model's distribution. Another seed gives another caption.",
};
export const element = (id) => document.getElementById(id);

/** Show a status, with more text for screen readers only. */
export function showStatus(text, more = "") {
  element("status").textContent = text;
  if (more) element("status").append(Object.assign(document.createElement("span"), { className: "visually-hidden", textContent: ` ${more}` }));
}

/** Show that a photo was captioned; screen readers also get the captions. */
export function showCaptioned(name, seconds) {
  document.body.dataset.answered = name;
  const captions = [...document.querySelectorAll(".caption")].map((caption) => caption.getAttribute("aria-label")).filter(Boolean);
  showStatus(`${name}, captioned in ${seconds.toFixed(1)} s.`, captions.join(" "));
}

export function showError(message) {
  showStatus("");
  element("error").textContent = message;
  element("error").hidden = false;
}

export function hideError() {
  element("error").hidden = true;
}

/** Explain the chosen search, and hide the settings of the others. */
export function explainSearch() {
  const form = element("search");
  const { search } = Object.fromEntries(new FormData(form));
  element("explanation").textContent = EXPLANATIONS[search];
  for (const label of form.querySelectorAll("[data-search]")) label.hidden = label.dataset.search !== search;
}

/** On a narrow screen the photo is below the controls: scroll to it. */
export function scrollToCards() {
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const isBelow = element("cards").getBoundingClientRect().top > innerHeight / 2;
  if (isBelow) element("status").scrollIntoView({ behavior: reducedMotion ? "instant" : "smooth" });
}

/** Call `open(file, name)` for every photo that is chosen, pasted, or dropped anywhere on the page. */
export function listenForPhotos(open) {
  const openFirst = ([file]) => {
    if (file) open(file, file.name || "The pasted image");
    else showError("There was no file: drop an image file, or copy an image and paste it.");
  };
  element("file").addEventListener("change", (event) => {
    openFirst([...event.target.files]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) openFirst([...event.clipboardData.files]);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || element("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    element("drop").classList.remove("over");
    openFirst([...event.dataTransfer.files]);
  });
}
