/** The button by which the controls go from hand to hand: viewers ask for them, the player hands them over. */

import { toast } from "./hud.js";

const byId = (id) => document.getElementById(id);

/**
 * @param {object} connection
 * @returns {{show: (seating: object) => void}} to be told every Seating message
 */
export function attachSeat(connection) {
  const button = byId("tool-seat");
  let before = { role: "", num_asking: 0 };
  button.onclick = () => connection.send(before.role === "player" || before.place > 0 ? "yield" : "claim");
  const show = (seating) => {
    announce(before, seating);
    if (before.role && before.role !== seating.role) showRole(seating.role, connection.request.session);
    before = seating;
    const isPlayer = seating.role === "player";
    button.hidden = isPlayer && seating.num_asking === 0;
    button.setAttribute("aria-pressed", String(!isPlayer && seating.place > 0));
    button.querySelector("span").textContent = caption(seating);
  };
  return { show };
}

function caption({ role, num_asking, place }) {
  if (role === "player") return num_asking > 1 ? `Hand over (${num_asking} ask)` : "Hand over";
  return place > 0 ? `Asked for the controls (${place})` : "Take the controls";
}

function announce(before, { role, num_asking }) {
  if (before.role && before.role !== role) toast(role === "player" ? "You have the controls" : "You watch now");
  else if (role === "player" && num_asking > before.num_asking) toast("A viewer asks for the controls");
}

/** The page's address after a reload leads to the same place: a player comes back by token, a viewer by session. */
function showRole(role, session) {
  const url = new URL(location.href);
  for (const name of ["seed", "session", "role"]) url.searchParams.delete(name);
  if (role === "viewer") {
    url.searchParams.set("session", session);
    url.searchParams.set("role", role);
  }
  history.replaceState(null, "", url);
}
