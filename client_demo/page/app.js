/** The page: puts connection, controls, screen and HUD together. */

import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { attachGamepads, attachKeyboard, attachMouse } from "./devices.js";
import * as hud from "./hud.js";
import { ActionToPhoton } from "./latency.js";
import { isNotice } from "./protocol.js";
import { Screen } from "./screen.js";
import { attachSeat } from "./seat.js";
import { attachTools, randomSeed, showSeed } from "./tools.js";
import { attachTouch } from "./touch.js";

const HUD_PERIOD_MS = 250;
const FPS_WINDOW_MS = 2000;
const REPORT_PERIOD_MS = 1000;
const PLACE_KEY = "rewander.place"; // where a reload of the page goes back to: {resume, search}

const query = new URLSearchParams(location.search);
const fragment = new URLSearchParams(location.hash.slice(1)); // never sent to a server or a log: the token's place
const byId = (id) => document.getElementById(id);

const world = {
  welcome: null,
  status: null,
  lastReceipt: null,
  framesShown: 0,
  start: { seed: Number(query.get("seed") ?? randomSeed()) }, // what Start over goes back to: a seed or an image
};
const shownTimes = [];
const latency = new ActionToPhoton();
const memories = new hud.Memories();
const screen = new Screen(byId("picture"), byId("glow"));

const connection = new Connection(request(), { transport: query.get("transport") ?? "auto", video: byId("video") }, {
  stage: enter,
  message: hear,
  picture(picture) {
    screen.draw(picture);
    world.framesShown += 1;
    shownTimes.push(performance.now());
  },
  shown(receipt, time) {
    world.lastReceipt = receipt;
    hud.endProgress(receipt.frame);
    latency.shown(receipt, time);
  },
});
const controls = new Controls((input, isNew) => {
  if (isNew) latency.sent(input.seq, input.ts);
  document.body.classList.add("moved"); // the hint has done its work
  connection.sendInput(input);
});

function request() {
  return {
    session: query.get("session") ?? undefined,
    role: query.get("role") === "viewer" ? "viewer" : "player",
    seed: query.has("session") ? undefined : world.start.seed,
    token: fragment.get("token") ?? undefined,
  };
}

function enter(stage, detail) {
  if (stage === "waiting") {
    latency.forget();
    if (detail.role === "player") controls.begin(detail.axes);
  } else if (stage !== "live") controls.end();
  hud.showStage(stage, detail);
  showPlace();
}

const hearing = {
  welcome(welcome) {
    world.welcome = welcome;
    screen.resize(welcome.width, welcome.height);
    cast(welcome);
  },
  seating(seating) {
    if (seating.role !== world.welcome.role) recast(seating.role);
    seat.show(seating);
  },
  status(status) {
    world.status = status;
    tools.recallIs(status.recall);
    memories.switched(status.recall);
    showPlace();
  },
  recalled: (recalled) => memories.show(recalled),
  progress: (progress) => hud.showProgress(progress),
  error: (error) => isNotice(error) && hud.toast(error.message),
};

function hear(message) {
  hearing[message.t]?.(message);
}

/** Show what this role sees and can do. */
function cast(welcome) {
  document.body.dataset.role = welcome.role;
  hud.showHint(welcome.role === "player" ? welcome.axes : [], matchMedia("(pointer: coarse)").matches);
  tools.welcome(welcome);
  showPlace();
}

/** The controls came to us, or went to someone else. */
function recast(role) {
  world.welcome = { ...world.welcome, role };
  latency.forget();
  if (role === "player") controls.begin(world.welcome.axes);
  else controls.end();
  document.body.classList.remove("moved");
  cast(world.welcome);
}

function showPlace() {
  const { welcome, status } = world;
  const words = { live: status?.paused ? "paused" : "live", waiting: "opening", lost: "coming back" };
  const isViewer = welcome?.role === "viewer";
  const company = isViewer ? "watching" : status?.viewers ? `${status.viewers} watching` : "";
  hud.showPlace([words[connection.stage] ?? connection.stage, welcome?.model, connection.transport, company]);
}

function refresh() {
  const now = performance.now();
  while (shownTimes.length && now - shownTimes[0] > FPS_WINDOW_MS) shownTimes.shift();
  const isLive = connection.stage === "live";
  const fps = shownTimes.length > 1 ? (1000 * (shownTimes.length - 1)) / (shownTimes.at(-1) - shownTimes[0]) : NaN;
  hud.showFigures({ fps: isLive ? fps : NaN, a2p: isLive ? latency.median(now) : NaN, status: isLive ? world.status : null });
  hud.showSpark(latency.samples);
}

/** The server's figures have what only we can measure. */
function reportLatency() {
  const samples = latency.report();
  if (samples.length && world.welcome?.role === "player") connection.send("latency", { action_to_photon: samples });
}

/** The token of the world that this very address showed before it was reloaded. */
function placeBefore() {
  const { resume, search } = JSON.parse(sessionStorage.getItem(PLACE_KEY) ?? "{}");
  return search === location.search ? resume : "";
}

function leave() {
  sessionStorage.setItem(PLACE_KEY, JSON.stringify({ resume: connection.resume, search: location.search }));
  connection.leave();
}

const tools = attachTools({ world, connection, screen, request });
const seat = attachSeat(connection);
const schema = () => world.welcome?.axes ?? [];
attachKeyboard(controls);
attachMouse(controls, byId("surface"));
attachGamepads(controls, schema);
attachTouch(controls, { surface: byId("surface"), stick: byId("stick"), schema });
addEventListener("pagehide", leave);
addEventListener("online", () => connection.stage === "lost" && connection.retry());
setInterval(refresh, HUD_PERIOD_MS);
setInterval(reportLatency, REPORT_PERIOD_MS);

/** For tests and the curious. */
window.rewander = {
  get stage() { return connection.stage; },
  get transport() { return connection.transport; },
  get welcome() { return world.welcome; },
  get status() { return world.status; },
  get lastReceipt() { return world.lastReceipt; },
  get framesShown() { return world.framesShown; },
  get actionToPhoton() { return [...latency.samples]; },
};

const resume = placeBefore();
if (!query.has("session") && !resume) showSeed(world.start.seed);
connection.run(resume);
