// A captioner in the browser: onnxruntime-web computes the graphs, the search is `beam_search.js`.

import { beamSearch, bestTokens, greedySearch, moveProbability } from "./beam_search.js";
import { confidenceOf, familiarityOf, gainOfWords } from "./confidence.js";
import { ConsensusPredictor, rankByConsensus } from "./consensus.js";
import { PhraseStatistics } from "./phrases.js";
import { preferredBeamSearch } from "./preferred_beam.js";
import { imageToArray } from "./resize.js";
import { tagsOf } from "./tags.js";
import { articlesFrom, joinTokens, whyUnusable, withArticles } from "./text.js";
import { ClassPreferences, softmax } from "./word_preferences.js";

const decoder = new TextDecoder();
const GRAPHS = ["encoder.onnx", "init_state.onnx", "step.onnx"];
const CLASSES = 1000; // of ImageNet
const CLASS_GRAPHS = ["class_map.onnx", "classes.onnx"]; // with tags.json

export class Captioner {
  /** runtime: the module onnxruntime-web; files: Map of the model's file names to their bytes. */
  static async create(runtime, files) {
    const json = (name) => JSON.parse(decoder.decode(files.get(name)));
    const model = json("model.json");
    const beside = model.weights ? [{ path: model.weights, data: files.get(model.weights) }] : [];
    const options = { executionProviders: ["wasm"], externalData: beside };
    const classes = files.has("classes.json") ? new ClassPreferences(json("classes.json")) : null;
    const sessions = [];
    for (const name of files.has("tags.json") ? [...GRAPHS, ...CLASS_GRAPHS] : GRAPHS) {
      sessions.push(await runtime.InferenceSession.create(files.get(name), options));
    }
    const phrases = files.has("phrases.json") ? new PhraseStatistics(json("phrases.json")) : null;
    const subspace = files.has("familiarity.bin") ? new Float32Array(files.get("familiarity.bin").slice().buffer) : null;
    const consensus = model.consensus ? new ConsensusPredictor(model.consensus, files.get("consensus.bin").slice()) : null;
    const tags = files.has("tags.json") ? json("tags.json") : null;
    return new Captioner(runtime, model, sessions, json("vocab.json"), phrases, subspace, classes, consensus, tags);
  }

  constructor(runtime, model, [encoder, initState, step, classMap, classLogits], vocabulary, phrases, subspace, classes, consensus, tags) {
    Object.assign(this, { runtime, model, encoder, initState, stepGraph: step, vocabulary, phrases, subspace });
    Object.assign(this, { classMap, classLogits, classes, consensus, tags, articles: articlesFrom(model.articles) });
  }

  /** {width, height, channels, data} → what the encoder says of the image, and its classifier, where the page has it. */
  async encode(image) {
    const { size } = this.model.transform;
    const images = new this.runtime.Tensor("float32", imageToArray(image, this.model.transform), [1, 3, size, size]);
    if (!this.tags) return this.encoder.run({ images }, ["vector", "grid"]);
    const found = { images, ...(await this.encoder.run({ images })) };
    const [read] = this.classMap.inputNames; // "shared", or "images"
    const { map } = await this.classMap.run({ [read]: found[read] });
    const probabilities = softmax((await this.logitsOf(map, Array.from({ length: CLASSES }, (_, i) => i))).data);
    const tags = await tagsOf(probabilities, this.tags, (classes) => this.regionLogits(map, classes));
    return { vector: found.vector, grid: found.grid, probabilities, tags };
  }

  /** The classifier's head on feature maps (M, D, h, w): the logits (M, C) of C classes. */
  async logitsOf(map, classes) {
    const numbers = new this.runtime.Tensor("int64", BigInt64Array.from(classes, BigInt), [classes.length]);
    return (await this.classLogits.run({ map, classes: numbers })).logits;
  }

  /** The head on each region of one map alone: {rows, columns, logits: of each class an array of its regions}. */
  async regionLogits(map, classes) {
    const [, depth, rows, columns] = map.dims;
    const regions = rows * columns;
    const alone = new map.data.constructor(map.data.length);
    for (let region = 0; region < regions; region += 1) {
      for (let channel = 0; channel < depth; channel += 1) alone[region * depth + channel] = map.data[channel * regions + region];
    }
    const found = rowsOf(await this.logitsOf(new this.runtime.Tensor(map.type, alone, [regions, depth, 1, 1]), classes));
    return { rows, columns, logits: classes.map((_, place) => found.map((ofRegion) => ofRegion[place])) };
  }

  /**
   * The captions of an image, as the server of `captioner demo` answers: {resize, captions}. search: settings that differ
   * from the model's own; alternatives: how many captions of a beam search besides the best.
   */
  async caption(features, search = {}, alternatives = 0) {
    const config = { ...this.model.decode, ...search };
    const { special } = this.model;
    const inputs = Object.fromEntries(this.initState.inputNames.map((name) => [name, features[name]]));
    const state = await this.initState.run(inputs);
    const newRows = () => new DecoderRows(this, state, config);
    const weighed = this.consensus && config.name !== "greedy" && config.consensus_weight > 0;
    const wanted = weighed ? config.beam_width : alternatives + 1; // of all that a beam finds, some are chosen
    const preferences = this.classes && config.class_weight ? this.classes.ofImage(features.probabilities, config.class_weight) : null;
    let found;
    if (config.name === "greedy") found = await greedySearch(newRows(), config, special, this.phrases);
    else if (preferences) found = await preferredBeamSearch(newRows, config, special, wanted, this.phrases, preferences);
    else found = await beamSearch(newRows(), config, special, wanted, this.phrases);
    if (weighed) {
      const similarities = this.consensus.similarities(features.vector.data, found.map(({ tokens }) => tokens));
      found = rankByConsensus(found, similarities, config.consensus_weight).slice(0, alternatives + 1);
    }
    const captions = found.map((hypothesis) => this.describe(hypothesis));
    Object.assign(captions[0], this.confidence(captions[0], features.vector.data, config), { tags: features.tags ?? null });
    return { resize: this.model.transform.resize, captions };
  }

  describe({ tokens: ids, logProb, score, finished, attention }) {
    const tokens = withArticles(ids, this.articles).map((id) => this.vocabulary[id]);
    const [rows, columns] = this.model.grid_size;
    const grid = (weights) => Array.from({ length: rows }, (_, row) => [...weights.subarray(row * columns, (row + 1) * columns)]);
    return {
      text: joinTokens(tokens, this.model.separator),
      tokens,
      log_prob: logProb,
      length: tokens.length + finished,
      score,
      finished,
      unusable: whyUnusable(tokens),
      attention: attention && attention.map(grid),
    };
  }

  confidence({ log_prob, length, score }, vector, config) {
    const { calibration } = this.model;
    if (!calibration) return {};
    const familiarity = familiarityOf(vector, this.subspace);
    const unlike = familiarity < calibration.unlike_below;
    const applies = calibration.applies && !unlike && Object.entries(this.model.decode).every(([key, value]) => config[key] === value);
    if (!applies) return { familiarity, unlike_training: unlike, confidence: null };
    const gain = gainOfWords(score, log_prob, length, config.length_penalty);
    return { familiarity, unlike_training: unlike, confidence: confidenceOf(log_prob, length, familiarity, gain, calibration) };
  }
}

/** The rows of a search (`beam_search.js`): one step of the ONNX graph for all of them. */
class DecoderRows {
  constructor({ runtime, stepGraph, model, phrases }, state, config) {
    Object.assign(this, { runtime, graph: stepGraph, special: model.special, phrases, config });
    const part = (kind) => Object.fromEntries(Object.entries(state).filter(([name]) => name.startsWith(kind)));
    [this.ofImage, this.ofRows] = [part("image_"), part("row_")];
    this.repeated = this.ofImage; // one entry per row
    this.width = 1;
  }

  async step(tokens) {
    const ids = new this.runtime.Tensor("int64", BigInt64Array.from(tokens, BigInt), [tokens.length]);
    const inputs = { tokens: ids, ...this.repeated, ...this.ofRows };
    const found = await this.graph.run(Object.fromEntries(this.graph.inputNames.map((name) => [name, inputs[name]])));
    const next = Object.entries(found).filter(([name]) => name.startsWith("next_row_"));
    this.ofRows = Object.fromEntries(next.map(([name, tensor]) => [name.slice("next_".length), tensor]));
    this.logits = rowsOf(found.logits);
    return found.attention ? rowsOf(found.attention) : null;
  }

  moveProbability(transfers) {
    transfers.forEach((ofRow, row) => moveProbability(this.logits[row], ofRow));
  }

  bestTokens(hypotheses, count, gains) {
    return hypotheses.map((hypothesis, row) => bestTokens(this.logits[row], hypothesis, count, this.config, this.special, this.phrases, gains?.[row]));
  }

  select(rows) {
    for (const [name, tensor] of Object.entries(this.ofRows)) this.ofRows[name] = this.take(tensor, rows);
    if (rows.length === this.width) return;
    this.width = rows.length;
    const repeated = Object.entries(this.ofImage).map(([name, tensor]) => [name, this.take(tensor, rows.map(() => 0))]);
    this.repeated = Object.fromEntries(repeated);
  }

  /** A tensor whose entry i is entry rows[i] of another. */
  take({ type, data, dims }, rows) {
    const length = data.length / dims[0];
    const taken = new data.constructor(rows.length * length);
    rows.forEach((row, i) => taken.set(data.subarray(row * length, (row + 1) * length), i * length));
    return new this.runtime.Tensor(type, taken, [rows.length, ...dims.slice(1)]);
  }
}

/** The entries of a tensor along its first dimension, without a copy. */
function rowsOf({ data, dims }) {
  const length = data.length / dims[0];
  return Array.from({ length: dims[0] }, (_, row) => data.subarray(row * length, (row + 1) * length));
}
