// Beam search over one image, as `captioner.decode.beam_search` defines it; greedy search is a beam of width 1.
//
// `rows` computes the decoder's steps: `step(tokens)` reads one token per row and returns the attention weights of each
// row, or null; `moveProbability(transfers)` changes the logits of each row; `bestTokens(hypotheses, count, gains)` returns,
// for each row, [token, log-probability, with its gain] of the most probable tokens that may follow; `select(indices)`
// continues with row indices[i] as row i.

import { NO_PREFERENCES } from "./word_preferences.js";

const USUAL_LENGTH = 10; // tokens of a caption
const NONE = new Map();

/**
 * A hypothesis while it is built: token ids, log-probability, what its words gain, what `repetition_penalty` added, its row
 * at each step.
 */
const START = { tokens: [], logProb: 0, gain: 0, repetition: 0, rows: [], finished: false, penalty: 0 };

/**
 * The `nBest` hypotheses, best first, the unfinished ones last: {tokens, logProb, score, finished, attention}.
 * config: the settings of `decode`; special: the ids of the special tokens; phrases: `PhraseStatistics`, or null;
 * preferences: `WordPreferences` of the image, or null.
 */
export async function beamSearch(rows, config, special, nBest = 1, phrases = null, preferences = null) {
  const wanted = Math.min(nBest, config.beam_width);
  const finished = []; // in the order in which they were found
  const attention = []; // of every step
  let open = [START]; // the most probable first
  let tokens = [special.start];
  for (;;) {
    attention.push(await rows.step(tokens));
    const longest = open[0].tokens.length;
    const count = config.beam_width + (config.repetition_penalty > 1 ? longest : 0);
    const gains = preferences && open.map((hypothesis) => preferences.nextGains(hypothesis.tokens));
    if (preferences) rows.moveProbability(open.map((hypothesis) => preferences.nextTransfers(hypothesis.tokens)));
    const candidates = rankCandidates(open, rows.bestTokens(open, count, gains), config, gains);
    const extended = [];
    const endedRows = new Set();
    for (const { row, token, logProb, gain, repetition } of candidates.slice(0, config.beam_width - finished.length)) {
      const { tokens: before, logProb: total, gain: gained, rows: path } = open[row];
      if (token === special.end) {
        const implausible = config.implausible_penalty && phrases?.isImplausible(before);
        finished.push({ ...open[row], logProb: total + logProb, finished: true, penalty: implausible ? config.implausible_penalty : 0 });
        endedRows.add(row);
      } else {
        extended.push({ ...open[row], tokens: [...before, token], logProb: total + logProb, gain: gained + gain, rows: [...path, row], repetition: open[row].repetition + repetition });
      }
    }
    if (!candidates.length || longest === config.max_length) {
      open = open.filter((_, row) => !endedRows.has(row)); // no token may follow: these stay unfinished
      break;
    }
    open = extended;
    if (isSettled(open, finished, wanted, config, preferences ?? NO_PREFERENCES)) break;
    tokens = open.map((hypothesis) => hypothesis.tokens.at(-1));
    rows.select(open.map((hypothesis) => hypothesis.rows.at(-1)));
  }
  const ranked = [...finished, ...open].map((hypothesis) => ({ ...hypothesis, score: scoreOf(hypothesis, config) }));
  ranked.sort((one, other) => other.finished - one.finished || other.score - one.score); // equal ones as they were found
  return ranked.slice(0, wanted).map(({ rows: path, ...found }) => ({
    ...found,
    attention: attention[0] && path.map((row, step) => attention[step][row]),
  }));
}

/** Greedy search with the same arguments: the most probable token at each step. */
export function greedySearch(rows, config, special, phrases = null) {
  return beamSearch(rows, { ...config, beam_width: 1, implausible_penalty: 0 }, special, 1, phrases);
}

/** All extensions of the open hypotheses, the best first; among equals the better hypothesis, then the lower token id. */
function rankCandidates(open, best, config, gains) {
  const candidates = [];
  open.forEach((hypothesis, row) => {
    for (const [token, logProb] of best[row]) {
      if (Number.isNaN(logProb)) throw new Error(`The decoder's scores at word ${hypothesis.tokens.length + 1} are not numbers (NaN).`);
      if (logProb === -Infinity) continue;
      const gain = gains?.[row].get(token) ?? 0;
      const repeats = config.repetition_penalty > 1 && hypothesis.tokens.includes(token);
      const repetition = repeats ? (config.repetition_penalty - 1) * (logProb - gain) : 0;
      const value = hypothesis.logProb + hypothesis.gain + hypothesis.repetition + logProb + repetition;
      candidates.push({ value, row, token, logProb: logProb - gain, gain, repetition });
    }
  });
  return candidates.sort((one, other) => other.value - one.value || one.row - other.row || one.token - other.token);
}

/** Whether no open hypothesis can still become one of the best: a log-probability never increases, a gain has a bound. */
function isSettled(open, finished, wanted, config, preferences) {
  if (!open.length) return true;
  if (finished.length < wanted) return false;
  const scores = finished.map((hypothesis) => scoreOf(hypothesis, config)).sort((one, other) => other - one);
  const longest = (config.max_length + 1) ** config.length_penalty;
  const bound = ({ tokens, logProb, repetition }) => (logProb + repetition) / longest + preferences.bound(tokens) / usualLength(config);
  return scores[wanted - 1] >= Math.max(...open.map(bound));
}

/** log-probability / length ** length_penalty, with the gain, less the penalty; the length counts <END>. */
function scoreOf({ tokens, logProb, gain, repetition, finished, penalty }, config) {
  const perLength = (logProb + repetition) / Math.max(tokens.length + finished, 1) ** config.length_penalty;
  return perLength + gain / usualLength(config) - penalty;
}

/** By what gains are divided, in place of a caption's own length: they must not favor short captions. */
export function usualLength({ length_penalty }) {
  return USUAL_LENGTH ** length_penalty;
}

/** The kinds of phrases that `config` forbids. */
function forbiddenKinds(config) {
  const kinds = { unseen: config.no_unseen_phrase, doubled: config.no_doubled_phrase, ending: config.no_bad_ending };
  return Object.keys(kinds).filter((kind) => kinds[kind]);
}

/** The tokens that would complete an n-gram that `tokens` already has. */
function repeatingTokens(tokens, n) {
  const last = tokens.slice(tokens.length - n + 1).join(" ");
  const found = [];
  for (let i = 0; n && i + n <= tokens.length; i += 1) {
    if (tokens.slice(i, i + n - 1).join(" ") === last) found.push(tokens[i + n - 1]);
  }
  return found;
}

/**
 * [token, log-probability] of the `count` most probable tokens that may follow a hypothesis, the best first, among equals
 * the lowest id. Log-probabilities are under the decoder's own softmax, before tokens are masked, with `gains`, which are
 * added to those of some tokens.
 */
export function bestTokens(logits, hypothesis, count, config, special, phrases, gains = NONE) {
  const total = Math.fround(logSumExp(logits));
  const allowed = Float32Array.from(logits);
  const never = [special.pad, special.start, ...(config.allow_unknown ? [] : [special.unknown])];
  const kinds = phrases ? forbiddenKinds(config) : [];
  const forbidden = kinds.length ? phrases.forbidden(hypothesis.tokens, kinds) : [];
  for (const token of [...never, ...repeatingTokens(hypothesis.tokens, config.no_repeat_ngram), ...forbidden]) allowed[token] = -Infinity;
  if (hypothesis.tokens.length < config.min_length) {
    const end = allowed[special.end];
    allowed[special.end] = -Infinity;
    if (allowed.every((logit) => logit === -Infinity)) allowed[special.end] = end;
  }
  gains.forEach((gain, token) => (allowed[token] += Math.fround(gain)));
  return topTokens(allowed, count).map((token) => [token, Math.fround(allowed[token] - total)]);
}

/** Change the logits of a row by `transfers` {target, sources, share} of probability, one after the other. */
export function moveProbability(logits, transfers) {
  for (const { target, sources, share } of transfers) {
    const moved = Math.fround(Math.fround(logSumExp(sources.map((token) => logits[token]))) + Math.fround(Math.log(share)));
    logits[target] = logSumExp([logits[target], moved]);
    for (const token of sources) logits[token] += Math.fround(Math.log1p(-share));
  }
}

function logSumExp(logits) {
  const largest = logits.reduce((most, logit) => Math.max(most, logit), -Infinity); // NaN where one is
  return Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)) + largest;
}

function topTokens(logits, count) {
  const best = []; // at most `count`, in order
  for (let token = 0; token < logits.length; token += 1) {
    const logit = logits[token];
    if (best.length === count && !(logit > logits[best[count - 1]])) continue;
    let place = best.length;
    while (place > 0 && logits[best[place - 1]] < logit) place -= 1;
    best.splice(place, 0, token);
    best.length = Math.min(best.length, count);
  }
  return best;
}
