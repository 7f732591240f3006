// Preprocessing: RGB pixels of any size → the numbers that the encoder reads. Equal, bit by bit, to
// `captioner.data.images.pixels`, which resizes with Pillow: antialiased, in two passes of fixed-point numbers.

const PRECISION = 22; // bits after the point of a weight: 32, less 8 of a pixel, less 2 for overshooting
const HALF = 2 ** (PRECISION - 1);
const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

/** Filter → how far it reaches at scale 1, and its weight at a distance. */
const FILTERS = {
  bilinear: [1, (x) => Math.max(1 - Math.abs(x), 0)],
  bicubic: [2, (x) => bicubic(Math.abs(x), -0.5)],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function bicubic(x, a) {
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/**
 * The weights of `size` outputs that cover the inputs from `low` to `high`, of `available` ones.
 * Output i is Σ weights[i * width + k] * input[first[i] + k] over count[i] inputs.
 */
function makeWeights(available, low, high, size, filter) {
  const [reach, weightAt] = FILTERS[filter];
  const scale = Math.fround(high - low) / size;
  const stretch = Math.max(scale, 1); // antialiasing: the filter grows when the image shrinks
  const support = reach * stretch;
  const width = Math.ceil(support) * 2 + 1;
  const weights = new Int32Array(size * width);
  const [first, count] = [new Int32Array(size), new Int32Array(size)];
  for (let i = 0; i < size; i += 1) {
    const center = low + (i + 0.5) * scale;
    first[i] = Math.max(Math.trunc(center - support + 0.5), 0);
    count[i] = Math.min(Math.trunc(center + support + 0.5), available) - first[i];
    const found = Array.from({ length: count[i] }, (_, k) => weightAt((k + first[i] - center + 0.5) * (1 / stretch)));
    const total = found.reduce((sum, weight) => sum + weight, 0);
    found.forEach((weight, k) => {
      const fixed = (total ? weight / total : weight) * 2 ** PRECISION;
      weights[i * width + k] = Math.trunc(fixed + (fixed < 0 ? -0.5 : 0.5));
    });
  }
  return { first, count, weights, width };
}

/**
 * Resample the lines of pixels, 3 channels each: output i of a line is at i * to.step, and line l is at l * to.line.
 * at, to: these distances in the input and in the output.
 */
function resample(pixels, at, output, to, lines, { first, count, weights, width }) {
  for (let line = 0; line < lines; line += 1) {
    for (let i = 0; i < first.length; i += 1) {
      let [red, green, blue] = [HALF, HALF, HALF];
      let source = line * at.line + first[i] * at.step;
      for (let k = i * width; k < i * width + count[i]; k += 1, source += at.step) {
        red += pixels[source] * weights[k];
        green += pixels[source + 1] * weights[k];
        blue += pixels[source + 2] * weights[k];
      }
      const target = line * to.line + i * to.step; // a Uint8ClampedArray clips to 0 … 255
      output[target] = red >> PRECISION;
      output[target + 1] = green >> PRECISION;
      output[target + 2] = blue >> PRECISION;
    }
  }
}

/** Resample the rows of an image. */
function resampleRows({ width, height, channels, data }, weights) {
  const size = weights.first.length;
  const output = new Uint8ClampedArray(size * height * 3);
  resample(data, { line: width * channels, step: channels }, output, { line: size * 3, step: 3 }, height, weights);
  return { width: size, height, channels: 3, data: output };
}

/** Resample the columns of an image. */
function resampleColumns({ width, channels, data }, weights) {
  const size = weights.first.length;
  const output = new Uint8ClampedArray(width * size * 3);
  resample(data, { line: channels, step: width * channels }, output, { line: 3, step: width * 3 }, width, weights);
  return { width, height: size, channels: 3, data: output };
}

/** The rows from `first` on, `count` of them. */
function someRows({ width, channels, data }, first, count) {
  const length = width * channels;
  return { width, height: count, channels, data: data.subarray(first * length, (first + count) * length) };
}

/** The part of a width × height image that the encoder sees: left, top, right, bottom. */
function visibleBox(width, height, resize) {
  if (resize !== "crop") return [0, 0, width, height];
  const side = Math.min(width, height);
  return [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2];
}

/**
 * {width, height, channels, data} → the `size` × `size` RGB pixels that the encoder sees. channels: 3, or 4, whose last is
 * ignored. tall_first: whether columns come before rows where the height shrinks by more than twice as many pixels as the
 * width, as in Pillow 13; the pixels between the passes are rounded, so that the order shows in the result.
 */
export function resizeImage(image, { size, resize, interpolation, tall_first }) {
  const { width, height } = image;
  const [left, top, right, bottom] = visibleBox(width, height, resize);
  const columns = makeWeights(height, top, bottom, size, interpolation);
  const rows = makeWeights(width, left, right, size, interpolation);
  const needsRows = width !== size || left !== 0 || right !== size;
  const needsColumns = height !== size || top !== 0 || bottom !== size;
  let resized = image;
  if (tall_first && height > size && height - size > (width - size) * 2) {
    if (needsColumns) resized = resampleColumns(resized, columns);
    if (needsRows) resized = resampleRows(resized, rows);
  } else {
    if (needsRows) {
      const first = columns.first[0]; // rows outside of the box are not computed
      resized = resampleRows(someRows(resized, first, columns.first[size - 1] + columns.count[size - 1] - first), rows);
      columns.first.forEach((_, i) => (columns.first[i] -= first));
    }
    if (needsColumns) resized = resampleColumns(resized, columns);
  }
  if (resized.channels === 3) return resized.data;
  return Uint8ClampedArray.from({ length: size * size * 3 }, (_, i) => resized.data[Math.floor(i / 3) * 4 + (i % 3)]);
}

/** An image → Float32Array (3, size, size): (pixel / 255 − mean) / std per channel, rounded to float32 each time. */
export function imageToArray(image, transform) {
  const pixels = resizeImage(image, transform);
  const area = transform.size ** 2;
  const array = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel += 1) {
    const [mean, std] = [Math.fround(transform.mean[channel]), Math.fround(transform.std[channel])];
    const values = Float32Array.from({ length: 256 }, (_, pixel) => Math.fround(Math.fround(pixel / 255) - mean) / std);
    for (let i = 0; i < area; i += 1) array[channel * area + i] = values[pixels[3 * i + channel]];
  }
  return array;
}
