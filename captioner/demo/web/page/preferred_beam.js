// Beam search that weighs what an image's classes say of words: see `captioner.decode.preferred_beam`.

import { beamSearch, usualLength } from "./beam_search.js";

/**
 * The `nBest` hypotheses, best first: `beamSearch`, with the `preferences` of the image. newRows: a function that returns the
 * rows of a new search. Where the best caption could gain, the image is searched again with its preferences.
 */
export async function preferredBeamSearch(newRows, config, special, nBest, phrases, preferences) {
  const usual = usualLength(config);
  const first = (await beamSearch(newRows(), config, special, nBest, phrases)).map((one) => ({
    ...one,
    score: one.score + preferences.total(one.tokens) / usual,
  }));
  if (!preferences.canDoBetter(first[0].tokens)) return first;
  const second = await beamSearch(newRows(), config, special, nBest, phrases, preferences);
  const known = new Set(first.map(({ tokens }) => tokens.join(" ")));
  const both = [...first, ...second.filter(({ tokens }) => !known.has(tokens.join(" ")))];
  both.sort((one, other) => other.finished - one.finished || other.score - one.score);
  return both.slice(0, Math.max(first.length, second.length));
}
