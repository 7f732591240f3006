// How sure a model is of a caption, and images unlike those that it knows: see `captioner.checkpoint.calibration`.

/** ‖P v‖² / ‖v‖² of an image vector, for the rows of the subspace P one after the other; 0 for a vector of zeros. */
export function familiarityOf(vector, subspace) {
  const squares = vector.reduce((sum, value) => sum + value * value, 0);
  let inside = 0;
  for (let row = 0; row < subspace.length; row += vector.length) {
    let projected = 0;
    for (let i = 0; i < vector.length; i += 1) projected += subspace[row + i] * vector[i];
    inside += projected * projected;
  }
  return squares ? inside / squares : 0;
}

/** What a beam search's score has besides the log-probability: the gains of the words that classes speak for. */
export function gainOfWords(score, logProb, length, lengthPenalty) {
  return score - logProb / Math.max(length, 1) ** lengthPenalty;
}

/** The confidence of a caption of a beam search. length: its tokens, <END> counted; gain: `gainOfWords`. */
export function confidenceOf(logProb, length, familiarity, gain, { intercept, weights, means, scales }) {
  const inputs = [logProb / Math.max(length, 1), logProb, familiarity, gain];
  const logit = weights.reduce((sum, weight, i) => sum + (weight * (inputs[i] - means[i])) / scales[i], intercept);
  return 0.5 * (1 + Math.tanh(0.5 * logit));
}
