/** The wire protocol as the page needs it: names, limits, and the defaults that the server leaves out. */

import { decode, encode } from "./msgpack.js";

export const SUBPROTOCOL = "rewander.v1.msgpack";
export const MAX_IMAGE_BYTES = 60_000;

const DEFAULTS = {
  welcome: { axes: [], accepts_image: true, accepts_prompt: false },
  seating: { resume: "", has_player: true, num_asking: 0, place: 0 },
  receipt: { rtp: 0 },
  status: { recall: true, paused: false },
  progress: { preview: new Uint8Array() },
  error: { retry_after: 0, place: 0, waiting: "" },
};
const AXIS_DEFAULTS = { keys: {}, pointer: null, pointer_gain: 0 };

/** The server could not be reached this way; another transport may do. */
export class Unreachable extends Error {}

/** The server said no. With `retryAfter` seconds above 0 it is only busy; `waiting` keeps the `place` in its queue. */
export class Refusal extends Error {
  constructor(code, message, { retryAfter = 0, place = 0, waiting = "" } = {}) {
    super(message);
    Object.assign(this, { code, retryAfter, place, waiting });
  }
}

/** The server asks us to come back after `retryAfter` seconds, with `resume` unless that is empty. */
export class Away extends Error {
  constructor(resume, retryAfter) {
    super("the server asked us to come back");
    this.resume = resume;
    this.retryAfter = retryAfter;
  }
}

/** Whether an `error` ends nothing: what was asked for is not done, or a section was lost and the world goes on. */
export function isNotice({ code }) {
  return code.startsWith("input.") || code.startsWith("model.");
}

/** @returns {Uint8Array} the message `name` with `fields`; undefined fields are left out */
export function pack(name, fields = {}) {
  return encode({ t: name, ...fields });
}

/** @returns {object} one message from the server, complete with defaults; `t` names it */
export function unpack(buffer) {
  const message = { ...decode(new Uint8Array(buffer)) };
  const complete = { ...DEFAULTS[message.t], ...message };
  if (complete.t === "welcome") complete.axes = complete.axes.map((axis) => ({ ...AXIS_DEFAULTS, ...axis }));
  return complete;
}
