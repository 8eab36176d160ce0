/** The buttons: new world, own image, start over, recall, invitation, look, fit, full screen. */

import { toast } from "./hud.js";
import { attachDrop, PictureError, prepareImage } from "./picture.js";

const byId = (id) => document.getElementById(id);

/** A seed that is pleasant to read aloud. */
export function randomSeed() {
  return 1 + Math.floor(Math.random() * 999_999);
}

/** Put a world's seed into the page's address, so that it can be sent and kept; a world from an image has none. */
export function showSeed(seed) {
  const url = new URL(location.href);
  for (const name of ["seed", "session", "role"]) url.searchParams.delete(name);
  if (seed !== undefined) url.searchParams.set("seed", seed);
  history.replaceState(null, "", url);
}

/**
 * @param {object} page `world` (its `welcome` and `start`), `connection`, `screen`, and `request()` for a fresh Hello
 * @returns {{welcome: (welcome: object) => void, recallIs: (isOn: boolean) => void}}
 */
export function attachTools({ world, connection, screen, request }) {
  const restart = (start) => {
    world.start = start;
    showSeed(start.seed);
    connection.send("reset", start);
    byId("picture").animate({ filter: ["brightness(0.35) saturate(0.6)", "none"] }, { duration: 700, easing: "ease-out" });
  };
  attachNewWorld(connection, restart);
  attachImage(world, restart);
  byId("tool-restart").onclick = () => restart(world.start);
  attachRecall(connection);
  attachView(screen);
  byId("tool-invite").onclick = () => invite(world.welcome);
  byId("card-action").onclick = () => {
    if (connection.stage === "busy" || connection.resume) return connection.retry();
    world.start = { seed: randomSeed() };
    showSeed(world.start.seed);
    connection.retry({ ...request(), ...world.start, session: undefined, role: "player" });
  };
  return { welcome: offer, recallIs };
}

/** Show only what this world and this role can do. */
function offer({ role, accepts_image, accepts_prompt }) {
  byId("prompt-field").hidden = !accepts_prompt;
  for (const button of document.querySelectorAll("#tools .player")) button.hidden = role !== "player";
  if (!accepts_image) byId("tool-image").hidden = true;
}

function attachNewWorld(connection, restart) {
  const [form, seed, prompt] = [byId("new-world"), byId("seed"), byId("prompt")];
  form.addEventListener("beforetoggle", ({ newState }) => {
    if (newState === "open") seed.value = randomSeed();
  });
  form.addEventListener("toggle", ({ newState }) => newState === "open" && seed.select());
  byId("dice").onclick = () => (seed.value = randomSeed());
  byId("prompt-here").onclick = () => {
    form.hidePopover();
    if (prompt.value) connection.send("prompt", { text: prompt.value });
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.hidePopover();
    restart({ seed: Number(seed.value), prompt: prompt.value || undefined });
    toast(`World ${seed.value}`);
  });
}

function attachImage(world, restart) {
  const input = byId("file");
  const take = async (file) => {
    if (!world.welcome?.accepts_image || world.welcome.role !== "player") return toast("This world does not start from images.");
    try {
      restart({ image: await prepareImage(file, world.welcome) });
      toast("A world from your image");
    } catch (error) {
      if (!(error instanceof PictureError)) throw error;
      toast(error.message);
    }
  };
  byId("tool-image").onclick = () => input.click();
  input.onchange = () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  };
  attachDrop(take);
}

function attachRecall(connection) {
  const button = byId("tool-recall");
  button.onclick = () => {
    const recall = button.getAttribute("aria-checked") !== "true";
    connection.send("settings", { recall });
    recallIs(recall);
  };
}

function recallIs(isOn) {
  byId("tool-recall").setAttribute("aria-checked", String(isOn));
}

async function invite(welcome) {
  if (!welcome) return;
  const url = new URL(location.pathname, location.origin);
  url.search = new URLSearchParams({ session: welcome.session, role: "viewer" });
  const isPhone = matchMedia("(pointer: coarse)").matches && navigator.share;
  try {
    if (isPhone) await navigator.share({ title: "Rewander", url: url.href });
    else await navigator.clipboard.writeText(url.href);
    if (!isPhone) toast("Link for viewers copied");
  } catch (error) {
    if (error.name !== "AbortError") toast(url.href); // no clipboard outside secure contexts: show it instead
  }
}

function attachView(screen) {
  const press = (button, isOn) => button.setAttribute("aria-pressed", String(isOn));
  byId("tool-look").onclick = ({ currentTarget }) => press(currentTarget, screen.toggleLook() === "crisp");
  byId("tool-fit").onclick = ({ currentTarget }) => {
    const isCover = document.body.dataset.fit !== "cover";
    document.body.dataset.fit = isCover ? "cover" : "contain";
    press(currentTarget, isCover);
  };
  const full = byId("tool-full");
  full.hidden = !document.fullscreenEnabled;
  full.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen());
  document.addEventListener("fullscreenchange", () => press(full, Boolean(document.fullscreenElement)));
}
