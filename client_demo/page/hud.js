/** What the page says: figures, the memories in use, the state card, hints and short notices. */

const NUMBER = new Intl.NumberFormat("en");
const TOAST_MS = 3200;
const SPARK_SAMPLES = 48;
const SPARK_FLOOR_MS = 120; // the scale of the sparkline at least, so that small jitter looks small

const CARDS = {
  connecting: () => ["Connecting", "", ""],
  waiting: () => ["Opening the world", "The first frame is being generated.", ""],
  lost: ({ attempt }) => ["Connection lost", attempt > 1 ? `Coming back to your world · try ${attempt}` : "Coming back to your world.", ""],
  busy: ({ message, seconds, place }) =>
    place ? queued(place, seconds) : ["No place is free", `${sentence(message)} Next try in ${seconds} s.`, "Try now"],
  refused: ({ message, code }) => REFUSALS[code] ?? ["The server said no", sentence(message || code), "Open a new world"],
};
const REFUSALS = {
  "auth.token": ["This server asks for a token", "Add #token=… to the address of this page.", ""],
  "session.unknown": ["This world has ended", "Nobody has played it for a while.", "Open a new world"],
  "session.moved": ["You went on elsewhere", "This world is open in another window.", "Come back here"],
  "session.taken": ["Someone plays here", "You may watch, or walk a world of your own.", "Open a new world"],
};

const byId = (id) => document.getElementById(id);

/** Put the page into a stage of the connection. */
export function showStage(stage, detail = {}) {
  document.body.dataset.stage = stage;
  const card = CARDS[stage];
  if (!card) return;
  const [title, text, action] = card(detail);
  byId("card-title").textContent = title;
  byId("card-text").textContent = text;
  byId("card-action").textContent = action;
  byId("card-action").hidden = !action;
}

/** Asking more often would help nobody, so there is no button. */
function queued(place, seconds) {
  const before = place === 1 ? "You are next." : `${place - 1} before you.`;
  return [`Number ${place} in the queue`, `All worlds are taken. ${before} Asking again in ${seconds} s.`, ""];
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** The line under the name: what is shown, where from, by which way. */
export function showPlace(parts) {
  byId("place-text").textContent = parts.filter(Boolean).join(" · ");
}

/** @param {{fps: number, a2p: number, status: object | null}} figures NaN and null show as a dash */
export function showFigures({ fps, a2p, status }) {
  write("fps", fps, (value) => value.toFixed(1));
  write("a2p", a2p, (value) => value.toFixed(0));
  write("generate", status?.generate_ms, (value) => value.toFixed(0));
  write("context", status?.context_tokens, NUMBER.format);
  write("memories", status?.memory_entries, NUMBER.format);
}

function write(name, value, format) {
  const text = Number.isFinite(value) ? format(value) : "–";
  const output = byId(`figure-${name}`);
  if (output.textContent !== text) output.textContent = text; // an equal text would still be read aloud again
}

/** Draw the newest action-to-photon samples as a line of quiet bars. */
export function showSpark(samples) {
  const canvas = byId("spark");
  const context = canvas.getContext("2d");
  const recent = samples.slice(-SPARK_SAMPLES);
  const step = canvas.width / SPARK_SAMPLES;
  const top = Math.max(SPARK_FLOOR_MS, ...recent);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#e9c583";
  recent.forEach((ms, i) => {
    const height = Math.max(2, (ms / top) * canvas.height);
    context.globalAlpha = 0.25 + (0.6 * (i + 1)) / recent.length;
    context.fillRect(canvas.width - (recent.length - i) * step, canvas.height - height, step - 1.5, height);
  });
}

/** The thumbnails that are recalled right now, best first. */
export class Memories {
  #tiles = new Map(); // id -> element
  #isOn = true;

  /** @param {object} recalled a Recalled message */
  show({ ids, scores, why, thumbnails }) {
    const list = byId("thumbnails");
    const kept = new Map(ids.map((id, i) => [id, this.#tiles.get(id) ?? makeTile(thumbnails[i])]));
    for (const [id, tile] of this.#tiles) {
      if (!kept.has(id)) URL.revokeObjectURL(tile.querySelector("img").src);
    }
    ids.forEach((id, i) => label(kept.get(id), { id, score: scores[i], why: why[i] }));
    list.replaceChildren(...kept.values());
    this.#tiles = kept;
    this.#note();
  }

  /** Say whether recall is switched on. */
  switched(isOn) {
    this.#isOn = isOn;
    this.#note();
  }

  #note() {
    const text = this.#isOn ? "Nothing yet: every place is new." : "Recall is off: the past is forgotten.";
    byId("memory-note").textContent = text;
    byId("memory").classList.toggle("empty", this.#tiles.size === 0);
  }
}

function makeTile(thumbnail) {
  const tile = document.createElement("li");
  const image = new Image();
  if (thumbnail.length) image.src = URL.createObjectURL(new Blob([thumbnail], { type: "image/jpeg" }));
  const caption = document.createElement("p");
  caption.append(document.createElement("b"), document.createElement("span"));
  tile.append(image, caption);
  tile.animate({ opacity: [0, 1], translate: ["0 6px", "none"] }, { duration: 400, easing: "ease-out" });
  return tile;
}

function label(tile, { id, score, why }) {
  tile.style.setProperty("--score", Math.max(0, Math.min(1, score)));
  tile.querySelector("img").alt = `memory ${id}, score ${score.toFixed(2)}, ${why}`;
  tile.querySelector("b").textContent = score.toFixed(2);
  tile.querySelector("span").textContent = why.split(":", 1)[0]; // the way it was found; the figures behind it follow
  tile.title = why;
}

let awaitedFrame = Infinity;
let previewUrl = "";

/** How far the next section is, and what it comes to: until its first frame is shown. */
export function showProgress({ frame, step, num_steps, preview }) {
  awaitedFrame = frame;
  byId("progress-text").textContent = `step ${step} of ${num_steps}`;
  Object.assign(byId("progress-bar"), { value: step, max: num_steps });
  URL.revokeObjectURL(previewUrl);
  previewUrl = preview.length ? URL.createObjectURL(new Blob([preview], { type: "image/jpeg" })) : "";
  const image = byId("preview");
  image.hidden = !previewUrl;
  if (previewUrl) image.src = previewUrl;
  byId("progress").classList.add("visible");
}

/** A frame is shown: perhaps the one that was waited for. */
export function endProgress(frame) {
  if (frame < awaitedFrame) return;
  awaitedFrame = Infinity;
  byId("progress").classList.remove("visible");
}

let toastTimer = 0;

/** A short notice that goes by itself. */
export function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.classList.add("visible");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => element.classList.remove("visible"), TOAST_MS);
}

const KEY_ORDER = ["KeyW", "KeyA", "KeyS", "KeyD", "ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight"];
const KEY_NAMES = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Space: "space" };

/** What steers this world, from its schema: "W S move, A D strafe, ← → turn". */
export function showHint(axes, isTouch) {
  const hint = byId("hint");
  const parts = axes.filter((axis) => Object.keys(axis.keys).length).map(keysOf);
  if (axes.some(({ pointer }) => pointer)) parts.push([["click"], "to look around"]);
  const texts = isTouch ? [[[], "left thumb walks, drag to look"]] : parts;
  hint.replaceChildren(...texts.map(hintPart));
}

function keysOf({ name, keys }) {
  const codes = Object.keys(keys).sort((one, other) => keyRank(one) - keyRank(other));
  return [codes.slice(0, 2).map((code) => KEY_NAMES[code] ?? code.replace(/^(Key|Digit)/, "")), name];
}

function keyRank(code) {
  return KEY_ORDER.includes(code) ? KEY_ORDER.indexOf(code) : KEY_ORDER.length;
}

function hintPart([keys, text]) {
  const part = document.createElement("span");
  for (const key of keys) part.append(Object.assign(document.createElement("kbd"), { textContent: key }));
  part.append(text);
  return part;
}
