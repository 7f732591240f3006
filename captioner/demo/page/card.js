// The card of one model: the photo, the caption as words to point at, and the other captions of the search.

import { describeAttention, drawAttention } from "./attention.js";

const EMPTY = "(empty caption)";
const CARD = new DOMParser().parseFromString(`
  <article class="card">
    <header><h2></h2><p class="about"></p></header>
    <div class="inside">
      <div class="stage"><img alt=""><canvas aria-hidden="true"></canvas></div>
      <div class="result">
        <p class="caption" role="group"></p>
        <p class="sureness" hidden></p>
        <p class="attention-note"></p>
        <div class="hypotheses" hidden>
          <table>
            <caption></caption>
            <thead><tr>
              <th scope="col">caption</th>
              <th scope="col"><abbr title="natural logarithm of the caption's probability">log p</abbr></th>
              <th scope="col"><abbr title="tokens of the caption, &lt;END&gt; counted where the model generated it">tokens</abbr></th>
              <th scope="col"><abbr title="log p / tokens to the power of the length penalty; the search ranks by it">score</abbr></th>
            </tr></thead>
            <tbody></tbody>
          </table>
        </div>
        <p class="error" hidden></p>
      </div>
    </div>
  </article>`, "text/html").querySelector("article");

/** Add a model's card to the container; returns functions that show a photo, a pending request, a result or an error. */
export function makeCard(model, container) {
  const card = document.importNode(CARD, true);
  const part = (selector) => card.querySelector(selector);
  const [image, canvas, caption, note, sureness, hypotheses, error] =
    [".stage img", "canvas", ".caption", ".attention-note", ".sureness", ".hypotheses", ".error"].map(part);
  part("h2").textContent = model.name;
  part(".about").textContent = model.about;
  container.append(card);

  let result = null; // what `showResult` got
  let selected = 0; // index of the caption that is shown
  let pinned = null; // index of the word whose attention stays when the pointer leaves

  const words = () => [...caption.querySelectorAll("button")];

  /** Show the attention of the word at this index; null: of none. */
  function showAttention(index) {
    const { tokens, attention } = result.captions[selected];
    words().forEach((word, other) => {
      word.classList.toggle("attended", other === index);
      word.setAttribute("aria-pressed", String(other === pinned));
    });
    if (!attention) return;
    const largest = Math.max(...attention.flat(2));
    drawAttention(canvas, image, index === null ? null : attention[index], largest, result.resize);
    note.textContent =
      index === null ? "Point at a word, or use the arrow keys." : describeAttention(tokens[index], attention[index]);
  }

  function showCaption(index) {
    selected = index;
    pinned = null;
    const { text, tokens, attention, finished, unusable } = result.captions[index];
    caption.replaceChildren();
    caption.setAttribute("aria-label", `Caption: ${text || EMPTY}`);
    if (unusable) caption.append(Object.assign(document.createElement("em"), { textContent: tokens.length ? `No usable caption: it ${unusable}. ` : EMPTY }));
    if (attention) tokens.forEach((token, word) => caption.append(makeWord(token, word), " "));
    else caption.append(text);
    if (!finished) caption.append(Object.assign(document.createElement("span"), { className: "cut", textContent: "…", title: "cut at the length limit" }));
    note.textContent = attention ? "" : "This model has no attention: it sees the image as one vector.";
    drawAttention(canvas, image, null);
    if (attention && tokens.length) showAttention(null);
    showConfidence(result.captions[0]);
    hypotheses.querySelectorAll("button").forEach((row, other) => row.setAttribute("aria-pressed", String(other === index)));
  }

  /** How sure the model is of its best caption, and what its encoder's classifier sees; nothing where neither is known. */
  function showConfidence({ confidence, unlike_training, tags }) {
    const parts = [];
    if (typeof confidence === "number") parts.push(`Confidence ${(100 * confidence).toFixed(0)} %.`);
    if (unlike_training) parts.push("This photo is unlike those that the model knows: its captions are likely to be wrong.");
    if (tags && tags.length) parts.push(`Its encoder sees: ${tags.map(({ word, probability }) => `${word} ${(100 * probability).toFixed(0)} %`).join(", ")}.`);
    sureness.textContent = parts.join(" ");
    sureness.hidden = !parts.length;
  }

  function makeWord(token, index) {
    const word = document.createElement("button");
    word.type = "button";
    word.textContent = token;
    word.tabIndex = index === 0 ? 0 : -1; // one tab stop per caption; the arrow keys move between words
    word.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && showAttention(index));
    word.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && showAttention(pinned));
    word.addEventListener("focus", () => showAttention(index));
    word.addEventListener("blur", () => showAttention(pinned));
    word.addEventListener("click", () => {
      pinned = pinned === index ? null : index; // on a touch screen, a second tap deselects
      showAttention(pinned);
    });
    return word;
  }

  caption.addEventListener("keydown", (event) => {
    const all = words();
    const current = all.indexOf(document.activeElement);
    const last = all.length - 1;
    const next = { ArrowRight: current + 1, ArrowDown: current + 1, ArrowLeft: current - 1, ArrowUp: current - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape" && current >= 0) {
      pinned = null;
      showAttention(null);
    }
    if (next === undefined || current < 0) return;
    event.preventDefault();
    const word = all[Math.min(Math.max(next, 0), last)];
    all.forEach((other) => (other.tabIndex = other === word ? 0 : -1));
    word.focus();
  });

  function showHypotheses() {
    const { captions } = result;
    hypotheses.hidden = false;
    hypotheses.querySelector("caption").textContent = captions.length > 1 ? "Captions of the search, best first" : "Probability";
    const rows = captions.map(({ text, log_prob, length, score }, index) => {
      const row = document.createElement("tr");
      const header = document.createElement("th");
      header.scope = "row";
      if (captions.length > 1) {
        const select = Object.assign(document.createElement("button"), { type: "button", textContent: text || EMPTY });
        select.addEventListener("click", () => showCaption(index));
        header.append(select);
      } else header.textContent = text || EMPTY;
      row.append(header, ...[log_prob.toFixed(2), length, score.toPrecision(3)].map((value) => Object.assign(document.createElement("td"), { textContent: value })));
      return row;
    });
    hypotheses.querySelector("tbody").replaceChildren(...rows);
  }

  return {
    async setPhoto(url) {
      image.src = url;
      image.alt = "The photo that is captioned";
      await image.decode();
      part(".stage").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    },
    showPending() {
      card.setAttribute("aria-busy", "true");
      error.hidden = true;
    },
    showResult(response) {
      result = response;
      card.removeAttribute("aria-busy");
      showHypotheses();
      showCaption(0);
    },
    showError(message) {
      card.removeAttribute("aria-busy");
      result = null;
      caption.replaceChildren();
      note.textContent = "";
      sureness.hidden = true;
      hypotheses.hidden = true;
      error.textContent = message;
      error.hidden = false;
    },
  };
}
