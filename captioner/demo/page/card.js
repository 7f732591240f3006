// The card of one model: the photo, the caption as words to point at, its tags, and the other captions of the search.

import { describeAttention, describePlace, drawAttention } from "./attention.js";

const EMPTY = "(empty caption)";
const WITHOUT_ATTENTION = "This model has no attention: it sees the image as one vector.";
const CARD = new DOMParser().parseFromString(`
  <article class="card">
    <header><h2></h2><p class="about"></p></header>
    <div class="inside">
      <div class="stage"><img alt=""><canvas aria-hidden="true"></canvas></div>
      <div class="result">
        <p class="caption" role="group"></p>
        <p class="sureness" hidden></p>
        <p class="tags" role="group" hidden></p>
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
  const [image, canvas, caption, tagLine, note, sureness, hypotheses, error] =
    [".stage img", "canvas", ".caption", ".tags", ".attention-note", ".sureness", ".hypotheses", ".error"].map(part);
  part("h2").textContent = model.name;
  part(".about").textContent = model.about;
  container.append(card);

  let result = null; // what `showResult` got
  let selected = 0; // index of the caption that is shown
  let pinned = null; // index of the word whose attention stays when the pointer leaves

  const words = () => [...caption.querySelectorAll("button")];
  const tagButtons = () => [...tagLine.querySelectorAll("button")];

  /** Show the attention of the word at this index; null: of none. */
  function showAttention(index) {
    if (!result) return; // a word that had the focus is gone
    const { tokens, attention } = result.captions[selected];
    tagButtons().forEach((tag) => tag.classList.remove("attended"));
    words().forEach((word, other) => {
      word.classList.toggle("attended", other === index);
      word.setAttribute("aria-pressed", String(other === pinned));
    });
    if (!attention) {
      drawAttention(canvas, image, null);
      note.textContent = WITHOUT_ATTENTION;
      return;
    }
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
    note.textContent = "";
    drawAttention(canvas, image, null);
    if (!attention || tokens.length) showAttention(null);
    showConfidence(result.captions[0]);
    showTags(result.captions[0].tags ?? []);
    hypotheses.querySelectorAll("button").forEach((row, other) => row.setAttribute("aria-pressed", String(other === index)));
  }

  /** How sure the model is of its best caption; nothing where it is not known. */
  function showConfidence({ confidence, unlike_training }) {
    const parts = [];
    if (typeof confidence === "number") parts.push(`Confidence ${(100 * confidence).toFixed(0)} %.`);
    if (unlike_training) parts.push("This photo is unlike those that the model knows: its captions are likely to be wrong.");
    sureness.textContent = parts.join(" ");
    sureness.hidden = !parts.length;
  }

  /** What the encoder's classifier sees in the photo; nothing where it has none, or sees nothing. */
  function showTags(tags) {
    tagLine.replaceChildren(...(tags.length ? ["Its encoder sees "] : []));
    tagLine.setAttribute("aria-label", "What its encoder sees");
    tags.forEach((tag, index) => tagLine.append(makeTag(tag, index), " "));
    tagLine.hidden = !tags.length;
  }

  /** Show the region that speaks most for the tag. */
  function showRegion({ word, region: [row, column], grid: [rows, columns] }, button) {
    showAttention(null);
    button.classList.add("attended");
    const place = Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_, x) => Number(y === row && x === column)));
    drawAttention(canvas, image, place, 1, result.resize);
    note.textContent = `“${word}” is seen most in the ${describePlace(row, column, rows, columns)}.`;
  }

  function makeTag(tag, index) {
    const show = () => showRegion(tag, button);
    const button = makePointable(`${tag.word} ${(100 * tag.probability).toFixed(0)} %`, index, show);
    button.addEventListener("click", show); // a tap does not give the focus everywhere
    return button;
  }

  function makeWord(token, index) {
    const word = makePointable(token, index, () => showAttention(index));
    word.addEventListener("click", () => {
      pinned = pinned === index ? null : index; // on a touch screen, a second tap deselects
      showAttention(pinned);
    });
    return word;
  }

  /** A button that is shown while it is pointed at or has the focus. */
  function makePointable(text, index, show) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.tabIndex = index === 0 ? 0 : -1; // one tab stop per line; the arrow keys move between its buttons
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show());
    button.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && showAttention(pinned));
    button.addEventListener("focus", show);
    button.addEventListener("blur", () => showAttention(pinned));
    return button;
  }

  for (const [line, buttons] of [[caption, words], [tagLine, tagButtons]]) {
    line.addEventListener("keydown", (event) => {
      const all = buttons();
      const current = all.indexOf(document.activeElement);
      const last = all.length - 1;
      const next = { ArrowRight: current + 1, ArrowDown: current + 1, ArrowLeft: current - 1, ArrowUp: current - 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape" && current >= 0) {
        pinned = null;
        showAttention(null);
      }
      if (next === undefined || current < 0) return;
      event.preventDefault();
      const button = all[Math.min(Math.max(next, 0), last)];
      all.forEach((other) => (other.tabIndex = other === button ? 0 : -1));
      button.focus();
    });
  }

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
      tagLine.hidden = true;
      hypotheses.hidden = true;
      error.textContent = message;
      error.hidden = false;
    },
  };
}
