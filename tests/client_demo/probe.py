"""Measures action-to-photon from outside: a key is pressed, and the picture is watched until it answers."""

from playwright.sync_api import Page

WATCH = """async ({ selector, count }) => {
  const surface = document.querySelector(selector);
  const context = new OffscreenCanvas(4, 4).getContext("2d", { willReadFrequently: true });
  const isBright = () => {
    context.drawImage(surface, 0, 0, 4, 4);
    const { data } = context.getImageData(0, 0, 4, 4);
    return data.reduce((sum, byte, i) => sum + (i % 4 < 3 ? byte : 0), 0) / 48 > 140;
  };
  const atNext = (look) =>
    surface instanceof HTMLVideoElement ? surface.requestVideoFrameCallback(look) : requestAnimationFrame(look);
  const seen = (wanted) => new Promise((resolve) => {
    const look = () => {
      const now = performance.now();
      if (isBright() === wanted) resolve(now);
      else atNext(look);
    };
    atNext(look);
  });
  const samples = [];
  for (let i = 0; i < count; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100 + 130 * Math.random()));
    const isDown = i % 2 === 0;
    const sent = performance.now();
    dispatchEvent(new KeyboardEvent(isDown ? "keydown" : "keyup", { code: "KeyW" }));
    samples.push((await seen(isDown)) - sent);
  }
  return samples;
}"""


def action_to_photon(page: Page, selector: str, *, count: int) -> list[float]:
    """Milliseconds from `count` presses and releases of W until a `BlinkModel`'s picture in `selector` shows each.

    A video is looked at in its frame callback, a canvas when the browser renders.
    """
    samples: list[float] = page.evaluate(WATCH, {"selector": selector, "count": count})
    return samples
