// What a search gains by naming something: see `captioner.text.word_preferences` and `captioner.text.class_preferences`.

/** The gains of the words for one image. */
export class WordPreferences {
  /**
   * gains: Map of tokens to gains; same: Map of tokens to those that name the same thing; groups: disjoint arrays of tokens,
   * of which any two name the same thing; transfers: {target, sources, share}.
   */
  constructor(gains, same, groups, transfers = []) {
    this.gains = new Map([...gains].filter(([, gain]) => gain));
    Object.assign(this, { same, transfers });
    this.positive = groups.map((group) => group.filter((token) => this.gains.get(token) > 0)).filter((group) => group.length);
  }

  /** Map of tokens to what they gain after `tokens`. */
  nextGains(tokens) {
    const named = this.named(tokens);
    return named.size ? new Map([...this.gains].filter(([token]) => !named.has(token))) : this.gains;
  }

  /** What moves between the probabilities of the token after `tokens`. */
  nextTransfers(tokens) {
    const named = this.named(tokens);
    return this.transfers.filter(({ target }) => !named.has(target));
  }

  /** The gain of a whole caption. */
  total(tokens) {
    const named = new Set();
    let total = 0;
    for (const token of tokens) {
      if (!named.has(token)) total += this.gains.get(token) ?? 0;
      this.same.get(token)?.forEach((other) => named.add(other));
    }
    return total;
  }

  /** An upper bound of what the caption can still gain: the best word of each group. */
  most(tokens) {
    const named = this.named(tokens);
    const best = (group) => Math.max(0, ...group.filter((token) => !named.has(token)).map((token) => this.gains.get(token)));
    return this.positive.reduce((sum, group) => sum + best(group), 0);
  }

  /** Whether a caption leaves out something that gains, or has a word that loses. */
  canDoBetter(tokens) {
    return this.most(tokens) > 0 || tokens.some((token) => this.gains.get(token) < 0);
  }

  /** An upper bound of the gain of any caption that begins with `tokens`. */
  bound(tokens) {
    return this.total(tokens) + this.most(tokens);
  }

  /** The tokens that name what `tokens` names already. */
  named(tokens) {
    return new Set(tokens.flatMap((token) => this.same.get(token) ?? []));
  }
}

export const NO_PREFERENCES = new WordPreferences(new Map(), new Map(), []);

/** Makes the preferences of images from `ClassPreferences.to_plain`, for one vocabulary. */
export class ClassPreferences {
  constructor({ constants, words, groups, animals }) {
    Object.assign(this, { constants, words, groups, animals });
    this.same = new Map(words.map(({ token, same }) => [token, same]));
    this.singulars = new Set(animals.flatMap(({ singulars }) => singulars));
    this.plurals = new Set(animals.flatMap(({ plurals }) => plurals));
  }

  /** The preferences of an image with these class probabilities, and a weight. */
  ofImage(probabilities, weight) {
    const sharpened = sharpen(probabilities, this.constants);
    const sum = (classes) => classes.reduce((total, number) => total + sharpened[number], 0);
    const gains = new Map(this.words.map(({ token, classes, deniable }) => [token, weight * logOdds(sum(classes), deniable, this.constants)]));
    return new WordPreferences(gains, this.same, this.groups, this.transfers(sum));
  }

  /** What goes to the words of the animal that the classes see for certain; sum: the probability of some classes. */
  transfers(sum) {
    const seen = this.animals.map(({ classes }) => sum(classes));
    const place = seen.indexOf(Math.max(...seen));
    const { singulars, plurals } = this.animals[place];
    const share = Math.min(seen[place], this.constants.most);
    if (share < this.constants.certain || !singulars.length) return [];
    const targets = [
      [singulars[0], this.singulars],
      [(plurals.length ? plurals : singulars)[0], this.plurals],
    ];
    const transfers = targets.map(([target, others]) => {
      const same = new Set([target, ...this.same.get(target)]);
      return { target, sources: [...others].filter((token) => !same.has(token)).sort((one, other) => one - other), share };
    });
    return transfers.filter(({ sources }) => sources.length);
  }
}

/** softmax(logits) → softmax(logits / temperature). */
export function sharpen(probabilities, { temperature }) {
  const largest = probabilities.reduce((most, probability) => Math.max(most, probability));
  const powers = Float64Array.from(probabilities, (probability) => Math.fround(probability / largest) ** (1 / temperature));
  const total = powers.reduce((sum, power) => sum + power);
  return powers.map((power) => power / total);
}

/** What the classes of a word say for it. constants: of the formulas. */
function logOdds(probability, deniable, constants) {
  const seen = Math.log(Math.max(probability, constants.seen) / constants.seen);
  const denied = Math.log(Math.min(Math.max(probability, constants.floor), constants.not_seen) / constants.not_seen);
  return seen + (deniable ? denied : 0);
}

/** Float32Array of logits → of probabilities. */
export function softmax(logits) {
  const largest = logits.reduce((most, logit) => Math.max(most, logit));
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = Math.fround(powers.reduce((sum, power) => sum + power));
  return powers.map((power) => power / total);
}
