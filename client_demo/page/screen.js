/** The picture on the page: a canvas that fits the window, its look, and the glow of the picture behind it. */

const MAX_SCALE = 4;
const MAX_PIXELS = 640_000;
const GLOW_PERIOD_MS = 250;
const GLOW_SIZE = 24;

export class Screen {
  look = "soft";
  #lastGlow = -Infinity;

  /**
   * @param {HTMLCanvasElement} canvas the picture, sized by CSS
   * @param {HTMLCanvasElement} glow a tiny blurred copy, stretched over the window by CSS
   */
  constructor(canvas, glow) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.small = document.createElement("canvas"); // at the world's own size, for crisp pixels
    this.smallContext = this.small.getContext("2d", { alpha: false });
    glow.width = glow.height = GLOW_SIZE;
    this.glowContext = glow.getContext("2d", { alpha: false });
  }

  /** Size the canvas for world frames of this size: a whole multiple, which CSS then scales the rest of the way. */
  resize(width, height) {
    let scale = MAX_SCALE;
    while (scale > 1 && width * height * scale * scale > MAX_PIXELS) scale -= 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    Object.assign(this.small, { width, height });
    document.documentElement.style.setProperty("--aspect", width / height);
  }

  /** Draw a video, VideoFrame or ImageBitmap, which may be larger than the world's frames and be closed afterwards. */
  draw(picture) {
    const isSoft = this.look === "soft";
    if (!isSoft) this.smallContext.drawImage(picture, 0, 0, this.small.width, this.small.height);
    this.context.imageSmoothingEnabled = isSoft;
    this.context.imageSmoothingQuality = "high"; // bicubic in Chromium
    this.context.drawImage(isSoft ? picture : this.small, 0, 0, this.canvas.width, this.canvas.height);
    const now = performance.now();
    if (now - this.#lastGlow > GLOW_PERIOD_MS) this.#drawGlow(now);
  }

  #drawGlow(now) {
    this.#lastGlow = now;
    this.glowContext.filter = "blur(2px)";
    this.glowContext.globalAlpha = 0.5; // eases from picture to picture
    this.glowContext.drawImage(this.canvas, 0, 0, GLOW_SIZE, GLOW_SIZE);
  }

  /** Soft scales smoothly; crisp keeps every generated pixel a square. */
  toggleLook() {
    this.look = this.look === "soft" ? "crisp" : "soft";
    return this.look;
  }
}
