/** Keyboard, mouse and gamepad: DOM events become calls on the controls. */

import { deflection, stickAxes } from "./controls.js";

const DEAD_ZONE = 0.15;

/** Keys steer wherever the focus is, except while text is being written. */
export function attachKeyboard(controls) {
  addEventListener("keydown", (event) => {
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!controls.codes.has(event.code)) return;
    event.preventDefault(); // arrows would scroll, space would press the focused button
    if (!event.repeat) controls.press(event.code);
  });
  addEventListener("keyup", (event) => controls.release(event.code));
  addEventListener("blur", () => controls.releaseAll());
  document.addEventListener("visibilitychange", () => document.hidden && controls.releaseAll());
}

function isTyping(target) {
  return target instanceof Element && target.matches("input, textarea, select");
}

/** A click captures the mouse; where that is refused, dragging looks around. */
export function attachMouse(controls, surface) {
  surface.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0 || !controls.isEnabled) return;
    surface.setPointerCapture(event.pointerId);
    surface.requestPointerLock?.()?.catch(() => {}); // refused in frames and just after Escape; dragging works then
  });
  surface.addEventListener("pointermove", (event) => {
    const isLooking = document.pointerLockElement === surface || (event.pointerType === "mouse" && event.buttons & 1);
    if (isLooking) controls.move(event.movementX, event.movementY);
  });
}

/** Poll the gamepads while there are any: left stick walks, right stick looks. */
export function attachGamepads(controls, schema) {
  let isPolling = false;
  const poll = () => {
    const pad = navigator.getGamepads().find((each) => each?.connected);
    isPolling = Boolean(pad);
    if (!pad) return controls.releaseAll();
    const [x, y, lookX, lookY] = [0, 1, 2, 3].map((i) => live(pad.axes[i] ?? 0));
    const roles = stickAxes(schema());
    const positions = { look: lookX, tilt: lookY, forward: -y };
    const turnsOnSide = roles.side && roles.side.name === roles.look?.name;
    if (turnsOnSide) positions.look = lookX || x;
    else positions.side = x;
    controls.deflect(deflection(roles, positions));
    requestAnimationFrame(poll);
  };
  addEventListener("gamepadconnected", () => {
    if (isPolling) return;
    isPolling = true;
    requestAnimationFrame(poll);
  });
}

/** Past the dead zone the range is whole again. */
function live(value) {
  const size = Math.max(0, (Math.abs(value) - DEAD_ZONE) / (1 - DEAD_ZONE));
  return Math.sign(value) * size;
}
