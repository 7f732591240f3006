// What the tests ask of the page's modules in Node: `node in_node.js NAME` reads JSON, and prints the result of that function.

import { readFileSync } from "node:fs";
import { beamSearch, bestTokens, greedySearch, moveProbability } from "./beam_search.js";
import { confidenceOf, familiarityOf, gainOfWords } from "./confidence.js";
import { ConsensusPredictor, rankByConsensus } from "./consensus.js";
import { PhraseStatistics } from "./phrases.js";
import { preferredBeamSearch } from "./preferred_beam.js";
import { imageToArray } from "./resize.js";
import { tagsOf } from "./tags.js";
import { articlesFrom, joinTokens, whyUnusable, withArticles } from "./text.js";
import { ClassPreferences, WordPreferences } from "./word_preferences.js";

const functions = {
  imagesToArrays: ({ images, transform }) =>
    images.map(({ data, ...image }) => [...imageToArray({ ...image, data: new Uint8ClampedArray(data) }, transform)]),

  async searchTables({ searches, special, phrases: stored }) {
    const phrases = new PhraseStatistics(stored);
    const found = [];
    for (const { logits, attention, config, best } of searches) {
      const rows = new TableRows(logits, attention, config, special, phrases);
      const greedy = config.name === "greedy";
      found.push(await (greedy ? greedySearch(rows, config, special, phrases) : beamSearch(rows, config, special, best, phrases)));
    }
    return found;
  },

  /** Searches with preferences: {gains, same, groups, transfers}, maps as lists of pairs. */
  async preferTables({ searches, special, phrases: stored }) {
    const phrases = new PhraseStatistics(stored);
    const found = [];
    for (const { logits, attention, config, best, preferences } of searches) {
      const { gains, same, groups, transfers } = preferences;
      const wanted = new WordPreferences(new Map(gains), new Map(same), groups, transfers);
      const newRows = () => new TableRows(logits, attention, config, special, phrases);
      found.push(await preferredBeamSearch(newRows, config, special, best, phrases, wanted));
    }
    return found;
  },

  /** The gains and transfers of images with these class probabilities. */
  classPreferences({ classes, images, weight }) {
    const preferences = new ClassPreferences(classes);
    return images.map((probabilities) => {
      const { gains, transfers } = preferences.ofImage(Float32Array.from(probabilities), weight);
      return { gains: [...gains], transfers };
    });
  },

  /** The tags of images with these class probabilities. logits: for each image and class, those of the regions. */
  tagsOf: ({ table, images, logits, rows, columns }) =>
    Promise.all(
      images.map((probabilities, image) =>
        tagsOf(Float32Array.from(probabilities), table, async (classes) => ({ rows, columns, logits: classes.map((number) => logits[image][number]) })),
      ),
    ),

  /** Of a decoder that always has these logits, where null is NaN: the message of the error. */
  async searchError({ logits, config, special }) {
    const rows = new TableRows([logits.map((logit) => logit ?? NaN)], [[]], config, special, null);
    return beamSearch(rows, config, special).catch((error) => error.message);
  },

  judgePhrases({ phrases: stored, captions, kinds }) {
    const phrases = new PhraseStatistics(stored);
    const forbidden = (caption) => kinds.map((kind) => [...phrases.forbidden(caption, [kind])].sort((one, other) => one - other));
    return captions.map((caption) => [phrases.isImplausible(caption), ...forbidden(caption)]);
  },

  /** For each search and caption, the tokens of a vocabulary of 8 that may follow. */
  allowedTokens({ configs, captions, special }) {
    const allowed = (config, tokens) => bestTokens(new Float32Array(8), { tokens }, 8, config, special, null);
    const possible = (config, tokens) => allowed(config, tokens).filter(([, logProb]) => logProb > -Infinity);
    return configs.map((config) => captions.map((tokens) => possible(config, tokens).map(([token]) => token)));
  },

  /** The similarities of captions to the prediction for each image vector, and the captions ranked with scores -0.1 i. */
  consensus({ about, content, vectors, captions, weight }) {
    const predictor = new ConsensusPredictor(about, Uint8Array.from(content));
    return vectors.map((vector) => {
      const similarities = predictor.similarities(Float32Array.from(vector), captions);
      const hypotheses = captions.map((tokens, i) => ({ tokens, score: -0.1 * i, finished: i % 3 > 0 }));
      return { similarities, ranked: rankByConsensus(hypotheses, similarities, weight) };
    });
  },

  withArticles: ({ articles, captions }) => captions.map((ids) => withArticles(ids, articlesFrom(articles))),

  whyUnusable: (captions) => captions.map(whyUnusable),

  joinTokens: (captions) => captions.map(([tokens, separator]) => joinTokens(tokens, separator)),

  /** Familiarity and confidence of vector i, for a caption of i tokens with a log-probability of -1.5 i and a score of 0.1 i. */
  confidence({ vectors, subspace, calibration }) {
    return vectors.map((vector, i) => {
      const familiarity = familiarityOf(Float32Array.from(vector), Float32Array.from(subspace));
      return [familiarity, confidenceOf(-1.5 * i, i, familiarity, gainOfWords(0.1 * i, -1.5 * i, i, 0.7), calibration)];
    });
  },
};

/** The rows of a search whose logits and attention are those of a state, which the tokens so far determine. */
class TableRows {
  constructor(logits, attention, config, special, phrases) {
    Object.assign(this, { attention, config, special, phrases, states: [0] });
    this.logits = logits.map((row) => Float32Array.from(row));
  }

  step(tokens) {
    this.states = this.states.map((state, row) => (state * 31 + tokens[row] + 1) % this.logits.length);
    this.current = this.states.map((state) => this.logits[state].slice());
    return this.states.map((state) => this.attention[state]);
  }

  moveProbability(transfers) {
    transfers.forEach((ofRow, row) => moveProbability(this.current[row], ofRow));
  }

  bestTokens(hypotheses, count, gains) {
    return hypotheses.map((hypothesis, row) => bestTokens(this.current[row], hypothesis, count, this.config, this.special, this.phrases, gains?.[row]));
  }

  select(rows) {
    this.states = rows.map((row) => this.states[row]);
  }
}

const result = await functions[process.argv[2]](JSON.parse(readFileSync(0, "utf8")));
process.stdout.write(JSON.stringify(result));
