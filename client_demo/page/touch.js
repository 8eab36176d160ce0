/** Touch: a joystick rises under the left thumb, a drag anywhere else looks around. */

import { deflection, stickAxes } from "./controls.js";

const RADIUS = 56; // pixels of full deflection
const LOOK_GAIN = 1.6; // a thumb has less room than a mouse

/**
 * @param {HTMLElement} surface where fingers land
 * @param {HTMLElement} stick the joystick's element; its custom properties --x and --y place the knob
 * @param {() => object[]} schema the Welcome's axes
 */
export function attachTouch(controls, { surface, stick, schema }) {
  const fingers = new Map(); // pointerId -> {role, x, y}

  surface.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" || !controls.isEnabled) return;
    surface.setPointerCapture(event.pointerId);
    const isFree = ![...fingers.values()].some(({ role }) => role === "walk");
    const role = isFree && isWalkingSide(event) ? "walk" : "look";
    fingers.set(event.pointerId, { role, x: event.clientX, y: event.clientY });
    if (role === "walk") raise(stick, event);
  });
  surface.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const [dx, dy] = [event.clientX - finger.x, event.clientY - finger.y];
    if (finger.role === "walk") return steer(dx, dy);
    controls.move(dx * LOOK_GAIN, dy * LOOK_GAIN);
    [finger.x, finger.y] = [event.clientX, event.clientY];
  });
  for (const type of ["pointerup", "pointercancel"]) {
    surface.addEventListener(type, (event) => {
      const finger = fingers.get(event.pointerId);
      fingers.delete(event.pointerId);
      if (finger?.role !== "walk") return;
      steer(0, 0);
      stick.classList.remove("raised");
    });
  }

  function steer(dx, dy) {
    const scale = 1 / Math.max(RADIUS, Math.hypot(dx, dy));
    const [x, y] = [dx * scale, dy * scale];
    place(stick, x, y);
    controls.deflect(deflection(stickAxes(schema()), { side: x, forward: -y }));
  }
}

/** The left half; on a tall screen only its lower part, so that the picture itself is for looking. */
function isWalkingSide({ clientX, clientY }) {
  const isTall = innerHeight > innerWidth;
  return clientX < innerWidth / 2 && clientY > innerHeight * (isTall ? 0.6 : 0.25);
}

function raise(stick, { clientX, clientY }) {
  stick.style.left = `${clientX}px`;
  stick.style.top = `${clientY}px`;
  place(stick, 0, 0);
  stick.classList.add("raised");
}

function place(stick, x, y) {
  stick.style.setProperty("--x", x);
  stick.style.setProperty("--y", y);
}
