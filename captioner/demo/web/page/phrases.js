// Phrase statistics: which phrases people would not write. See `captioner.text.phrases`, whose definitions these are.

const SMOOTHING = 0.5;
const LARGEST_RATIO = [[2, 0.005], [3, 0.08], [4, 0.1]];
const RAREST_ENDING = 0.002;
const LONGEST_DOUBLED = 6; // words
const keyOf = (tokens) => tokens.join(" ");

export class PhraseStatistics {
  /**
   * end: the token <END>. tokens: how many the corpus has. counts[n]: all n-grams that matter, one after the other, each
   * followed by its number of occurrences. doubled: the doubled phrases that the corpus has.
   */
  constructor({ end, tokens, counts, doubled }) {
    this.end = end;
    this.tokens = tokens;
    this.counts = new Map();
    this.followers = new Map(); // phrase → the tokens that follow it in an n-gram of `counts`
    for (const [length, flat] of Object.entries(counts)) {
      const n = Number(length);
      for (let i = 0; i < flat.length; i += n + 1) {
        const before = keyOf(flat.slice(i, i + n - 1));
        this.counts.set(keyOf(flat.slice(i, i + n)), flat[i + n]);
        if (!this.followers.has(before)) this.followers.set(before, []);
        this.followers.get(before).push(flat[i + n - 1]);
      }
    }
    this.doubled = new Set(doubled.map(keyOf));
    this.unseenAfter = new Map(); // of the contexts that were asked for
  }

  /** Whether a caption, whose tokens come without <END>, has an implausible phrase of any kind. */
  isImplausible(caption) {
    return [...caption, this.end].some((word, position) => {
      const before = caption.slice(0, position);
      const unseen = LARGEST_RATIO.some(([n]) => before.length >= n - 1 && this.isUnseen([...before.slice(before.length - n + 1), word]));
      if (unseen) return true;
      return word === this.end ? this.isBadEnding(before) : this.doubles(before, word);
    });
  }

  /** The tokens that would complete an implausible phrase of these kinds ("unseen", "doubled", "ending") after `tokens`. */
  forbidden(tokens, kinds) {
    const forbidden = new Set();
    if (kinds.includes("unseen")) {
      for (const [n] of LARGEST_RATIO) {
        if (tokens.length >= n - 1) this.unseenAfterContext(tokens.slice(tokens.length - n + 1)).forEach((word) => forbidden.add(word));
      }
    }
    if (kinds.includes("doubled")) {
      for (const word of tokens.slice(-(LONGEST_DOUBLED + 1))) if (this.doubles(tokens, word)) forbidden.add(word);
    }
    if (kinds.includes("ending") && this.isBadEnding(tokens)) forbidden.add(this.end);
    return forbidden;
  }

  count(gram) {
    return this.counts.get(keyOf(gram)) ?? 0;
  }

  /** The occurrences of an n-gram that its overlapping parts let expect; 0 where these are too rare. */
  expected(gram) {
    const middle = gram.length > 2 ? this.count(gram.slice(1, -1)) : this.tokens;
    return middle ? (this.count(gram.slice(0, -1)) * this.count(gram.slice(1))) / middle : 0;
  }

  isUnseen(gram) {
    if (gram.length === 2 && !this.hardlyEnds(gram.slice(0, 1))) return false;
    const expected = this.expected(gram);
    const ratio = Object.fromEntries(LARGEST_RATIO)[gram.length];
    return expected > 0 && this.count(gram) + SMOOTHING <= ratio * expected;
  }

  unseenAfterContext(context) {
    const key = keyOf(context);
    if (!this.unseenAfter.has(key)) {
      const followers = this.followers.get(keyOf(context.slice(1))) ?? [];
      this.unseenAfter.set(key, followers.filter((word) => this.isUnseen([...context, word])));
    }
    return this.unseenAfter.get(key);
  }

  /** Whether <END> follows these words in at most RAREST_ENDING of the cases, beyond doubt. */
  hardlyEnds(words) {
    return this.count([...words, this.end]) + SMOOTHING <= RAREST_ENDING * this.count(words);
  }

  isBadEnding(caption) {
    return !caption.length || this.hardlyEnds(caption.slice(-1)) || (caption.length > 1 && this.hardlyEnds(caption.slice(-2)));
  }

  /** Whether `word` completes a doubled phrase after `before` that the corpus does not have. */
  doubles(before, word) {
    const caption = [...before, word];
    for (const gap of [0, 1]) {
      const longest = Math.min(LONGEST_DOUBLED, Math.floor((caption.length - gap) / 2));
      for (let length = 1 + gap; length <= longest; length += 1) {
        const whole = caption.slice(caption.length - 2 * length - gap);
        if (keyOf(whole.slice(0, length)) !== keyOf(whole.slice(length + gap))) continue;
        if (!this.doubled.has(keyOf(whole)) && !(gap && this.hardlyEnds([word]))) return true;
      }
    }
    return false;
  }
}
