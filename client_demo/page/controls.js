/** The full state of the controls, and when it is sent: on change, thrice, and at 60 Hz while anything is active. */

const PERIOD_MS = 16;
const REPEATS = 2; // further sendings of a change, so that any one of three arriving is enough
const MIN_GAP_MS = 8; // between sendings that may wait, which keeps us well under the server's limit
const MOTION_ACTIVE_MS = 100;

export class Controls {
  #held = new Set();
  #presses = {};
  #pointer = [0, 0];
  #axes = {};
  #seq = 0;
  #repeats = 0;
  #isDirty = false;
  #lastSent = -Infinity;
  #lastMotion = -Infinity;
  #timer = 0;

  /**
   * @param {(fields: object, isNew: boolean) => void} send one Input; `isNew` unless it repeats the one before
   * @param {() => number} clock milliseconds
   */
  constructor(send, clock = () => performance.now()) {
    this.send = send;
    this.clock = clock;
    this.codes = new Set();
    this.isEnabled = false;
  }

  /** Begin a connection: totals start anew, the sequence goes on. `axes` is the Welcome's schema. */
  begin(axes) {
    this.codes = new Set(axes.flatMap((axis) => Object.keys(axis.keys)));
    this.#held.clear();
    this.#presses = {};
    this.#pointer = [0, 0];
    this.#axes = {};
    this.isEnabled = true;
  }

  end() {
    this.isEnabled = false;
    clearInterval(this.#timer);
    this.#timer = 0;
  }

  /** @returns {boolean} whether the schema knows the key */
  press(code) {
    if (!this.codes.has(code)) return false;
    this.#held.add(code);
    this.#presses[code] = (this.#presses[code] ?? 0) + 1;
    this.#changed();
    return true;
  }

  release(code) {
    if (this.#held.delete(code)) this.#changed();
  }

  /** Let go of everything, as when the window loses the focus. */
  releaseAll() {
    const wasActive = this.#held.size > 0 || this.#isDeflected();
    this.#held.clear();
    this.#axes = {};
    if (wasActive) this.#changed();
  }

  /** Add pointer motion in pixels. Mice report up to 1000 times a second; sums lose nothing. */
  move(dx, dy) {
    if (!dx && !dy) return;
    this.#pointer = [this.#pointer[0] + dx, this.#pointer[1] + dy];
    this.#lastMotion = this.clock();
    this.#changed(MIN_GAP_MS);
  }

  /** Set the named axes, each to [-1, 1]; the others stay. */
  deflect(axes) {
    const isChange = Object.entries(axes).some(([name, value]) => (this.#axes[name] ?? 0) !== value);
    if (!isChange) return;
    Object.assign(this.#axes, axes);
    this.#changed(MIN_GAP_MS);
  }

  #changed(minGap = 0) {
    if (!this.isEnabled) return;
    this.#isDirty = true;
    this.#timer ||= setInterval(() => this.#tick(), PERIOD_MS);
    if (this.clock() - this.#lastSent >= minGap) this.#flush();
  }

  #tick() {
    if (this.clock() - this.#lastSent < MIN_GAP_MS) return;
    if (this.#isDirty || this.#repeats > 0 || this.#isActive()) this.#flush();
    else {
      clearInterval(this.#timer);
      this.#timer = 0;
    }
  }

  #flush() {
    const isNew = this.#isDirty;
    if (isNew) this.#seq += 1;
    this.#repeats = isNew ? REPEATS : this.#repeats - 1;
    this.#isDirty = false;
    this.#lastSent = this.clock();
    this.send(this.#state(), isNew);
  }

  #state() {
    return {
      seq: this.#seq,
      ts: this.#lastSent,
      keys: [...this.#held].slice(0, 16),
      presses: this.#presses,
      pointer: this.#pointer,
      axes: this.#axes,
    };
  }

  #isActive() {
    return this.#held.size > 0 || this.#isDeflected() || this.clock() - this.#lastMotion < MOTION_ACTIVE_MS;
  }

  #isDeflected() {
    return Object.values(this.#axes).some((value) => value !== 0);
  }
}

/**
 * Which axes a stick steers, from the schema: `forward` is what W or Up does, `side` what D or Right does,
 * `look` and `tilt` what pointer motion does. Each is `{name, sign}`, or undefined if the world has no such thing.
 */
export function stickAxes(axes) {
  const byKey = (...codes) => {
    for (const code of codes) {
      const axis = axes.find(({ keys }) => code in keys);
      if (axis) return { name: axis.name, sign: Math.sign(axis.keys[code]) || 1 };
    }
  };
  const byPointer = (direction) => {
    const axis = axes.find(({ pointer }) => pointer === direction);
    return axis && { name: axis.name, sign: Math.sign(axis.pointer_gain) || 1 };
  };
  return {
    forward: byKey("KeyW", "ArrowUp"),
    side: byKey("KeyD", "ArrowRight"),
    look: byPointer("x") ?? byKey("ArrowRight"),
    tilt: byPointer("y"),
  };
}

/** The `deflect` argument for stick positions in [-1, 1] by role; roles that the world lacks are left out. */
export function deflection(roles, positions) {
  const axes = {};
  for (const [role, value] of Object.entries(positions)) {
    if (roles[role]) axes[roles[role].name] = Math.max(-1, Math.min(1, value * roles[role].sign)) || 0;
  }
  return axes;
}
