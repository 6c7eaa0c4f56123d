// Pixels: reading files, thumbnails, copies for this tab, and photographs made smaller.

const HUGE = 12e6; // pixels; what has more is made smaller before it is sent
const LARGE_FILE = 3e6; // bytes; what has fewer is sent as it is, unlooked at
const SENT = 2400; // pixels on the longer side of what was made smaller
const KEPT = 720; // pixels on the longer side of the copy that this tab keeps

/** A file's pixels as they are stored, upright; colour profiles are left alone, as on the server. */
export const decode = (file) =>
  createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });

/** The pixels of a data URL; scripts may not fetch one here. */
export async function decodeCopy(url) {
  const image = Object.assign(new Image(), { src: url });
  await image.decode();
  return createImageBitmap(image);
}

function drawn(bitmap, longer) {
  const scale = Math.min(1, longer / Math.max(bitmap.width, bitmap.height));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

export const blobOf = (canvas, type, quality) =>
  new Promise((done) => canvas.toBlob(done, type, quality));

/**
 * What to send of a file: itself, or a smaller JPEG of a huge photograph.
 * @returns {Promise<{blob: Blob, size: {width: number, height: number} | null}>} size: of a smaller
 *     one; null: the file itself
 */
export async function smaller(file) {
  const whole = { blob: file, size: null };
  if (file.size < LARGE_FILE) return whole;
  let bitmap;
  try {
    bitmap = await decode(file);
  } catch {
    return whole; // the server may read what this browser cannot
  }
  const { width, height } = bitmap;
  const canvas = width * height > HUGE ? drawn(bitmap, SENT) : null;
  bitmap.close();
  const blob = canvas && (await blobOf(canvas, "image/jpeg", 0.95));
  return blob ? { blob, size: { width: canvas.width, height: canvas.height } } : whole;
}

/** A copy for this tab's memory, as data URL: about 60 kB. */
export const copyOf = (bitmap) => drawn(bitmap, KEPT).toDataURL("image/jpeg", 0.85);

/** A square from the middle of an image. */
export function thumbnail(bitmap) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 120, height: 120 });
  const side = Math.min(bitmap.width, bitmap.height);
  const [x, y] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, x, y, side, side, 0, 0, 120, 120);
  return canvas;
}
