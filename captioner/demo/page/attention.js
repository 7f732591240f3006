// Where a model looked at one word: drawn over the photo, and said in words.

const SHADE = [8, 10, 22]; // what got less than an even share
const GLOW = [255, 196, 60]; // what got more

/** Draw a word's grid of weights over the photo, or nothing for null. `largest`: the weight that glows most. */
export function drawAttention(canvas, image, grid, largest, resize) {
  const width = (canvas.width = image.naturalWidth);
  const height = (canvas.height = image.naturalHeight);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (!grid) return;
  const square = resize === "crop" ? Math.min(width, height) : null; // the model saw the middle only
  const [wide, high] = square ? [square, square] : [width, height];
  const [left, top] = [(width - wide) / 2, (height - high) / 2];
  if (square) {
    context.fillStyle = `rgba(${SHADE}, 0.75)`;
    context.fillRect(0, 0, width, height);
    context.clearRect(left, top, wide, high);
  }
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  for (const layer of layers(grid, largest)) context.drawImage(layer, left, top, wide, high);
}

/** A shade and a glow, one pixel a cell: enlarged, each keeps its color and only its strength runs between cells. */
function layers(grid, largest) {
  const [rows, columns] = [grid.length, grid[0].length];
  const even = 1 / (rows * columns);
  const strengths = [
    (weight) => 0.72 * (1 - Math.min(weight / even, 1)) + 0.08,
    (weight) => 0.62 * Math.sqrt(Math.min(Math.max((weight - even) / Math.max(largest - even, even), 0), 1)),
  ];
  return strengths.map((strength, number) => {
    const layer = new OffscreenCanvas(columns, rows);
    const pixels = new ImageData(columns, rows);
    grid.flat().forEach((weight, cell) => {
      pixels.data.set([...[SHADE, GLOW][number], Math.round(255 * strength(weight))], 4 * cell);
    });
    layer.getContext("2d").putImageData(pixels, 0, 0);
    return layer;
  });
}

/** One sentence: where the strongest cell lies, how much more than an even share it got, and what a sentinel took. */
export function describeAttention(word, grid) {
  const [rows, columns] = [grid.length, grid[0].length];
  const weights = grid.flat();
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const strongest = weights.indexOf(Math.max(...weights));
  const times = weights[strongest] * rows * columns;
  const place = placeName((Math.floor(strongest / columns) + 0.5) / rows, ((strongest % columns) + 0.5) / columns);
  const away = total < 0.995 ? `, and away from the image with ${Math.round(100 * (1 - total))} %` : "";
  const sentence = times < 1.2 && !away ? "looked everywhere alike" : `looked most at the ${place}, ${times.toFixed(1)} × an even share`;
  return `“${word}” ${sentence}${away}.`;
}

/** "upper left" and the like for a place as shares of the height and the width. */
function placeName(down, across) {
  const vertical = down < 1 / 3 ? "upper" : down > 2 / 3 ? "lower" : "";
  const horizontal = across < 1 / 3 ? "left" : across > 2 / 3 ? "right" : "";
  if (!vertical && !horizontal) return "middle";
  if (!horizontal) return `${vertical} middle`;
  return vertical ? `${vertical} ${horizontal}` : `${horizontal} side`;
}
