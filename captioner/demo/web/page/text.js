// Tokens as text, and captions that no reader can use: see `captioner.text.tokenizers` and `captioner.text.degenerate`.

const LONGEST_PHRASE = 4; // tokens
const REPETITIONS = 3; // of one phrase in a row

/** Tokens as readable text. separator: what is put between them; null for units of byte-pair encoding, whose "▁" is a space. */
export function joinTokens(tokens, separator) {
  if (separator !== null) return tokens.join(separator);
  return tokens.reduce((text, unit) => text + (text ? unit : unit.replace(/^▁/, "")).replaceAll("▁", " "), "");
}

/** Why a caption is none, as the end of "This caption …"; null for one that may be shown. */
export function whyUnusable(tokens) {
  if (!tokens.length) return "is empty";
  const phrase = repeatedPhrase(tokens);
  return phrase && `repeats '${phrase.join(" ")}'`;
}

/** The first of the shortest phrases of up to 4 tokens that occur three times in a row; null where there is none. */
function repeatedPhrase(tokens) {
  for (let length = 1; length <= LONGEST_PHRASE; length += 1) {
    for (let start = 0; start + REPETITIONS * length <= tokens.length; start += 1) {
      const run = tokens.slice(start, start + REPETITIONS * length);
      if (run.every((token, i) => token === run[i % length])) return run.slice(0, length);
    }
  }
  return null;
}
