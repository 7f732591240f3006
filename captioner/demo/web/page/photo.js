// Reads a photo: its size before it is decoded, so that a large one is scaled down while it is decoded.

const MOST_PIXELS = 16_000_000; // that are decoded; a canvas of a phone has 16,777,216 at most
const PREVIEW = 1024; // longest side in pixels

/** The photo as an ImageBitmap, {bitmap, width, height, scaled}, upright. Throws an Error for a file that is no image. */
export async function decodePhoto(file) {
  if (!file.size) throw new Error("This file is empty (0 bytes). Expected an image.");
  const { width, height } = await measure(file);
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const scale = Math.sqrt(MOST_PIXELS / (width * height));
  const scaled = scale < 1;
  if (scaled) Object.assign(options, { resizeWidth: Math.floor(width * scale) || 1, resizeHeight: Math.floor(height * scale) || 1, resizeQuality: "high" });
  try {
    return { bitmap: await createImageBitmap(file, options), width, height, scaled };
  } catch (error) {
    if (scaled) throw new Error(`This photo has ${width} × ${height} pixels, more than this browser can decode. Make it smaller and try again.`);
    throw new Error("This image cannot be decoded. It may be damaged.");
  }
}

/** Width and height of an image file as it is shown, from its header. */
function measure(file) {
  const url = URL.createObjectURL(file);
  const image = new Image();
  return new Promise((resolve, reject) => {
    image.onload = () => resolve({ width: image.naturalWidth, height: image.naturalHeight });
    image.onerror = () => reject(new Error("This file is not an image that this browser can read, such as JPEG, PNG or WebP."));
    image.src = url;
  }).finally(() => URL.revokeObjectURL(url));
}

/** The address of a small copy of a bitmap, to be shown. */
export async function makePreview(bitmap) {
  const scale = Math.min(PREVIEW / Math.max(bitmap.width, bitmap.height), 1);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(Math.round(side * scale), 1));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 }));
}
