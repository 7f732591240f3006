// Attention weights of one word: drawn over the photo, and described in a sentence.

const SHADE = [8, 10, 22]; // color of regions with less than uniform attention
const GLOW = [255, 196, 60]; // color of regions with more

/** Draw the attention weights (rows × columns) of a word over the photo; null clears. `largest`: the weight of full glow. */
export function drawAttention(canvas, image, grid, largest, resize) {
  const width = (canvas.width = image.naturalWidth);
  const height = (canvas.height = image.naturalHeight);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (!grid) return;
  const side = resize === "crop" ? Math.min(width, height) : null; // the encoder saw the central square only
  const [drawnWidth, drawnHeight] = side ? [side, side] : [width, height];
  const [left, top] = [(width - drawnWidth) / 2, (height - drawnHeight) / 2];
  if (side) {
    context.fillStyle = `rgba(${SHADE}, 0.75)`;
    context.fillRect(0, 0, width, height);
    context.clearRect(left, top, drawnWidth, drawnHeight);
  }
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  for (const layer of makeLayers(grid, largest)) context.drawImage(layer, left, top, drawnWidth, drawnHeight);
}

/** A shade and a glow with one pixel per region. Each has one color: enlarging interpolates its opacity only. */
function makeLayers(grid, largest) {
  const [rows, columns] = [grid.length, grid[0].length];
  const uniform = 1 / (rows * columns);
  const opacities = [
    (weight) => 0.72 * (1 - Math.min(weight / uniform, 1)) + 0.08,
    (weight) => 0.62 * Math.sqrt(Math.min(Math.max((weight - uniform) / Math.max(largest - uniform, uniform), 0), 1)),
  ];
  return opacities.map((opacity, index) => {
    const layer = new OffscreenCanvas(columns, rows);
    const pixels = new ImageData(columns, rows);
    grid.flat().forEach((weight, region) => {
      pixels.data.set([...[SHADE, GLOW][index], Math.round(255 * opacity(weight))], 4 * region);
    });
    layer.getContext("2d").putImageData(pixels, 0, 0);
    return layer;
  });
}

/** One sentence: the position of the largest weight, how many times uniform it is, and the sentinel's weight. */
export function describeAttention(word, grid) {
  const [rows, columns] = [grid.length, grid[0].length];
  const weights = grid.flat();
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const largest = weights.indexOf(Math.max(...weights));
  const ratio = weights[largest] * rows * columns;
  const position = describePlace(Math.floor(largest / columns), largest % columns, rows, columns);
  const sentinel = total < 0.995 ? `; the sentinel has ${Math.round(100 * (1 - total))} %` : "";
  const focus = ratio < 1.2 && !sentinel ? "evenly to the whole image" : `most to the ${position} (${ratio.toFixed(1)} × uniform)`;
  return `“${word}” attends ${focus}${sentinel}.`;
}

/** "upper left" and the like, for a region of a grid of rows × columns. */
export function describePlace(row, column, rows, columns) {
  const [y, x] = [(row + 0.5) / rows, (column + 0.5) / columns];
  const vertical = y < 1 / 3 ? "upper" : y > 2 / 3 ? "lower" : "";
  const horizontal = x < 1 / 3 ? "left" : x > 2 / 3 ? "right" : "";
  if (!vertical && !horizontal) return "center";
  if (!horizontal) return `${vertical} center`;
  return vertical ? `${vertical} ${horizontal}` : `${horizontal} side`;
}
