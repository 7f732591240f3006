// Tokens as text, and captions that no reader can use: see `captioner.text.tokenizers`, `captioner.text.articles` and
// `captioner.text.degenerate`.

const LONGEST_PHRASE = 4; // tokens
const REPETITIONS = 3; // of one phrase in a row

/** Tokens as readable text. separator: what is put between them; null for units of byte-pair encoding, whose "▁" is a space. */
export function joinTokens(tokens, separator) {
  if (separator !== null) return tokens.join(separator);
  return tokens.reduce((text, unit) => text + (text ? unit : unit.replace(/^▁/, "")).replaceAll("▁", " "), "");
}

/** What `Articles.to_plain` wrote, or null, with sets in place of its lists. */
export function articlesFrom(plain) {
  return plain && { ...plain, afterAn: new Set(plain.after_an), afterEither: new Set(plain.after_either) };
}

/** The token ids of a caption, each "a" and "an" in the form that the next word needs. */
export function withArticles(ids, articles) {
  if (!articles) return ids;
  const { a, an, afterAn, afterEither } = articles;
  return ids.map((id, place) => {
    const following = ids[place + 1];
    if ((id !== a && id !== an) || following === undefined || afterEither.has(following)) return id;
    return afterAn.has(following) ? an : a;
  });
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
