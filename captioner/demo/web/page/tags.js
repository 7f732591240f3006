// What the encoder's classifier sees in a photo: see `captioner.evaluation.tags`.

import { sharpen } from "./word_preferences.js";

/**
 * The tags of an image, the most probable first: [{word, probability, region: [row, column], grid: [rows, columns]}].
 * probabilities: of the classes; table: tags.json; regionLogits: async function, classes → {rows, columns, logits}.
 */
export async function tagsOf(probabilities, { temperature, least, most, concepts }, regionLogits) {
  const sharpened = sharpen(probabilities, { temperature });
  const seen = concepts.map(({ word, classes }) => ({ word, classes, probability: classes.reduce((sum, number) => sum + sharpened[number], 0) }));
  const chosen = seen
    .filter(({ probability }) => probability >= least)
    .sort((one, other) => other.probability - one.probability)
    .slice(0, most);
  if (!chosen.length) return [];
  const main = chosen.map(({ classes }) => classes.reduce((best, number) => (sharpened[number] > sharpened[best] ? number : best)));
  const { rows, columns, logits } = await regionLogits(main);
  return chosen.map(({ word, probability }, place) => {
    const peak = logits[place].indexOf(Math.max(...logits[place]));
    return { word, probability, region: [Math.floor(peak / columns), peak % columns], grid: [rows, columns] };
  });
}
