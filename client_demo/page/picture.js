/** An image of one's own as the start of a world: chosen or dropped, cropped and shrunk until it may travel. */

import { MAX_IMAGE_BYTES } from "./protocol.js";

const OVERSAMPLING = 2; // the server scales to the world's size; twice that keeps its edges clean
const QUALITIES = [0.92, 0.85, 0.75, 0.6];

/** The file is no picture that this browser can read. */
export class PictureError extends Error {}

/**
 * @param {Blob} file any image the browser reads
 * @param {{width: number, height: number}} world whose aspect ratio the middle of the image is cut to
 * @returns {Promise<Uint8Array>} a JPEG of at most MAX_IMAGE_BYTES
 * @throws {PictureError}
 */
export async function prepareImage(file, world) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new PictureError(`“${file.name ?? "this file"}” is not an image that this browser can read`);
  });
  for (let scale = OVERSAMPLING; scale > 0.2; scale *= 0.7) {
    const canvas = crop(bitmap, Math.round(world.width * scale), Math.round(world.height * scale));
    for (const quality of QUALITIES) {
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
      if (blob.size <= MAX_IMAGE_BYTES) return new Uint8Array(await blob.arrayBuffer());
    }
  }
  throw new PictureError(`this image does not fit into ${MAX_IMAGE_BYTES} bytes`);
}

function crop(bitmap, width, height) {
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, width, height); // JPEG has no transparency: see-through becomes black
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  return canvas;
}

/** Call `take(file)` for every image file dropped on the page, and mark the body while one hovers. */
export function attachDrop(take) {
  let depth = 0; // dragenter and dragleave also fire for every child
  const hover = (change) => {
    depth = change ? Math.max(0, depth + change) : 0;
    document.body.classList.toggle("dropping", depth > 0);
  };
  addEventListener("dragenter", (event) => event.dataTransfer.types.includes("Files") && hover(1));
  addEventListener("dragleave", (event) => event.dataTransfer.types.includes("Files") && hover(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    hover(0);
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}
