// Consensus re-ranking with a predicted consensus: see `captioner.decode.consensus`.

const LONGEST = 4; // words of an n-gram
const SCALE = 10;

/** A matrix in 2, 4 or 8 bits a value: see `captioner.decode.quantized_rows`. */
class QuantizedRows {
  constructor(codes, steps, bits, columns) {
    Object.assign(this, { codes, steps, bits, columns, bytes: Math.ceil((columns * bits) / 8), middle: (2 ** bits - 1) / 2 });
  }

  /** The dot product of a row and a vector. */
  dot(row, vector) {
    let total = 0;
    for (let column = 0; column < this.columns; column += 1) {
      total += (this.code(row * this.bytes, column) - this.middle) * vector[column];
    }
    return total * this.steps[row];
  }

  code(first, column) {
    const place = column * this.bits;
    return (this.codes[first + (place >> 3)] >> (place & 7)) & (2 ** this.bits - 1);
  }
}

export class ConsensusPredictor {
  /**
   * about: {images, other_frequency, values, features, ngrams, bits, projection_bits}; content: of `consensus.bin`, as
   * `captioner.demo.web.consensus_files` writes it.
   */
  constructor(about, content) {
    const { values, features, ngrams, bits, projection_bits: projectionBits } = about;
    let offset = 0;
    const take = (Kind, length) => {
      const array = new Kind(content.buffer, content.byteOffset + offset, length);
      offset += array.byteLength;
      return array;
    };
    this.mean = take(Float32Array, values);
    const projectionSteps = take(Float32Array, features);
    this.offset = take(Float32Array, ngrams);
    const weightSteps = take(Float32Array, ngrams);
    const frequencies = take(Float32Array, ngrams);
    const tokens = take(Uint16Array, ngrams * LONGEST);
    const takeRows = (rows, steps, columns, ofValue) =>
      new QuantizedRows(take(Uint8Array, Math.ceil((columns * ofValue) / 8) * rows), steps, ofValue, columns);
    this.projection = takeRows(features, projectionSteps, values, projectionBits);
    this.weights = takeRows(ngrams, weightSteps, features, bits);
    const idf = (frequency) => Math.log(about.images) - Math.log(Math.max(frequency, 1));
    this.otherIdf = idf(about.other_frequency);
    this.numbers = new Map(); // n-gram → its row
    this.idf = Array.from(frequencies, idf);
    for (let row = 0; row < ngrams; row += 1) {
      const gram = tokens.subarray(row * LONGEST, (row + 1) * LONGEST).filter((token) => token > 0);
      this.numbers.set(gram.join(" "), row);
    }
  }

  /** How similar captions, as token ids, are to what people are predicted to say about the image of this vector. */
  similarities(vector, captions) {
    const features = this.imageFeatures(vector);
    const predicted = new Map(); // row → value
    const valueOf = (row) => {
      if (!predicted.has(row)) predicted.set(row, this.offset[row] + this.weights.dot(row, features));
      return predicted.get(row);
    };
    return captions.map((caption) => (SCALE / LONGEST) * this.clippedVector(caption).reduce((sum, [row, x]) => sum + x * valueOf(row), 0));
  }

  imageFeatures(vector) {
    const centered = Float64Array.from(vector, (value, i) => value - this.mean[i]);
    const projected = Array.from(this.projection.steps, (_, row) => this.projection.dot(row, centered));
    const length = Math.sqrt(projected.reduce((sum, value) => sum + value * value, 0));
    return length > 0 ? projected.map((value) => value / length) : projected;
  }

  /** [row, value] of each n-gram of a caption that has a row; each counts once, but in the length as often as it occurs. */
  clippedVector(caption) {
    const found = [];
    for (let n = 1; n <= LONGEST; n += 1) {
      const counts = new Map();
      for (let first = 0; first + n <= caption.length; first += 1) {
        const gram = caption.slice(first, first + n).join(" ");
        counts.set(gram, (counts.get(gram) ?? 0) + 1);
      }
      const rowsOfGrams = [...counts].map(([gram, count]) => [this.numbers.get(gram), count]);
      const idfOf = (row) => (row === undefined ? this.otherIdf : this.idf[row]);
      const length = Math.sqrt(rowsOfGrams.reduce((sum, [row, count]) => sum + (count * idfOf(row)) ** 2, 0));
      if (!length) continue;
      for (const [row] of rowsOfGrams) if (row !== undefined) found.push([row, idfOf(row) / length]);
    }
    return found;
  }
}

/** The hypotheses by score + weight · similarity, which is then their score; the finished ones first. */
export function rankByConsensus(hypotheses, similarities, weight) {
  const changed = hypotheses.map((one, i) => ({ ...one, score: one.score + weight * similarities[i] }));
  return changed.sort((one, other) => other.finished - one.finished || other.score - one.score);
}
