// One model's card: its photo, its caption as words to point at, and the other captions of its search.

import { describeAttention, drawAttention } from "./attention.js";

/** The card of a model, with what can be done to it: show a photo, wait, show an answer, show an error. */
export function makeCard(model, container) {
  const card = document.getElementById("card").content.cloneNode(true).firstElementChild;
  const part = (selector) => card.querySelector(selector);
  const [image, canvas, caption, where, found, error] =
    [".stage img", "canvas", ".caption", ".where", ".found", ".error"].map(part);
  part("h2").textContent = model.name;
  part(".about").textContent = model.about;
  container.append(card);

  let answer = null; // the server's
  let shown = 0; // which of its captions
  let pinned = null; // the word that keeps its attention when the pointer leaves

  const words = () => [...caption.querySelectorAll("button")];

  function look(place) {
    const { tokens, attention } = answer.captions[shown];
    words().forEach((word, number) => {
      word.classList.toggle("looked", number === place);
      word.setAttribute("aria-pressed", String(number === pinned));
    });
    if (!attention) return;
    const largest = Math.max(...attention.flat(2));
    drawAttention(canvas, image, place === null ? null : attention[place], largest, answer.resize);
    where.textContent =
      place === null ? "Point at a word, or step through them with the arrow keys." : describeAttention(tokens[place], attention[place]);
  }

  function showCaption(number) {
    shown = number;
    pinned = null;
    const { text, tokens, attention, finished } = answer.captions[number];
    caption.replaceChildren();
    caption.setAttribute("aria-label", `Caption: ${text || "(nothing)"}`);
    if (!tokens.length) caption.append(Object.assign(document.createElement("em"), { textContent: "(it said nothing)" }));
    else if (attention) tokens.forEach((token, place) => caption.append(makeWord(token, place), " "));
    else caption.textContent = text;
    if (!finished) caption.append(Object.assign(document.createElement("span"), { className: "cut", textContent: "…", title: "cut at the length limit" }));
    where.textContent = attention ? "" : "This model does not attend: it sees the image as a whole.";
    drawAttention(canvas, image, null);
    if (attention && tokens.length) look(null);
    found.querySelectorAll("button").forEach((row, place) => row.setAttribute("aria-pressed", String(place === number)));
  }

  function makeWord(token, place) {
    const word = document.createElement("button");
    word.type = "button";
    word.textContent = token;
    word.tabIndex = place === 0 ? 0 : -1; // one stop for Tab; the arrow keys go on from there
    word.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && look(place));
    word.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && look(pinned));
    word.addEventListener("focus", () => look(place));
    word.addEventListener("blur", () => look(pinned));
    word.addEventListener("click", () => {
      pinned = pinned === place ? null : place; // a second tap lets go, where there is no pointer to move away
      look(pinned);
    });
    return word;
  }

  caption.addEventListener("keydown", (event) => {
    const all = words();
    const here = all.indexOf(document.activeElement);
    const last = all.length - 1;
    const next = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape" && here >= 0) {
      pinned = null;
      look(null);
    }
    if (next === undefined || here < 0) return;
    event.preventDefault();
    const word = all[Math.min(Math.max(next, 0), last)];
    all.forEach((other) => (other.tabIndex = other === word ? 0 : -1));
    word.focus();
  });

  function showFound() {
    const { captions } = answer;
    found.hidden = false;
    found.querySelector("caption").textContent = captions.length > 1 ? "What the search kept, best first" : "How sure it is";
    const rows = captions.map(({ text, log_prob, length, score }, number) => {
      const row = document.createElement("tr");
      const name = document.createElement("th");
      name.scope = "row";
      if (captions.length > 1) {
        const choose = Object.assign(document.createElement("button"), { type: "button", textContent: text || "(nothing)" });
        choose.addEventListener("click", () => showCaption(number));
        name.append(choose);
      } else name.textContent = text || "(nothing)";
      row.append(name, ...[log_prob.toFixed(2), length, score.toFixed(2)].map((value) => Object.assign(document.createElement("td"), { textContent: value })));
      return row;
    });
    found.querySelector("tbody").replaceChildren(...rows);
  }

  return {
    async setPhoto(url) {
      image.src = url;
      image.alt = "The photo that is captioned";
      await image.decode();
      part(".stage").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    },
    wait() {
      card.setAttribute("aria-busy", "true");
      error.hidden = true;
    },
    show(given) {
      answer = given;
      card.removeAttribute("aria-busy");
      showFound();
      showCaption(0);
    },
    fail(sentence) {
      card.removeAttribute("aria-busy");
      answer = null;
      caption.replaceChildren();
      where.textContent = "";
      found.hidden = true;
      error.textContent = sentence;
      error.hidden = false;
    },
  };
}
