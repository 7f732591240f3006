// What the tests measure; evaluated in the page after it was loaded.

globalThis.all = (selector) => [...document.querySelectorAll(selector)];
globalThis.texts = (selector) => all(selector).map((element) => element.textContent);
globalThis.boxes = (selector) => all(selector).map((element) => element.getBoundingClientRect().toJSON());

/** Whether anything is drawn over the first card's photo; read from a copy of the canvas. */
globalThis.isPainted = () => {
  const canvas = document.querySelector("canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
};

/** Every element with text of its own, and the WCAG contrast between the text and its background. */
globalThis.contrasts = () => {
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const shown = all("body *").filter(
    (element) => element.checkVisibility() && (hasText(element) || element.matches("input[type=number]")) && !element.matches(".visually-hidden, :disabled, template *"),
  );
  return shown.map((element) => {
    let behind = element;
    while (isClear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const colors = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
    const [low, high] = colors.map(luminance).sort((a, b) => a - b);
    return { text: element.textContent.trim().slice(0, 40), colors, contrast: (high + 0.05) / (low + 0.05) };
  });
};

/** Controls and images without a label, a text or an alternative text. */
globalThis.withoutName = () =>
  all("input, button, img").filter((element) => {
    const named = element.labels?.length || element.textContent.trim() || element.hasAttribute("alt");
    return element.checkVisibility() && !named && !element.querySelector("img[alt]");
  });

const isClear = (color) => color === "rgba(0, 0, 0, 0)";

/** Relative luminance of "rgb(r, g, b)": WCAG 2.2, section "relative luminance". */
function luminance(color) {
  const linear = color.match(/[\d.]+/g).slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}
