/** Keeps one session alive: picks a transport, falls back, comes back by token, and says where it stands. */

import { Away, isNotice, Refusal, Unreachable } from "./protocol.js";
import { openWebRtc } from "./transport-rtc.js";
import { DecoderFailure, openWebSocket, preferredCodec } from "./transport-ws.js";

const WELCOME_TIMEOUT_MS = 10_000;
const SILENCE_MS = 5000; // the server says something every second
const RESUME_WINDOW_MS = 60_000; // as long as the server keeps a player's place
const BACKOFF_MS = [250, 500, 1000, 2000, 3000];

/**
 * Stages: connecting (nothing yet), waiting (welcomed, no picture yet), live, lost (coming back), busy (with
 * `seconds` until the next try, and the `place` in the queue if there is one), refused (with `code` and `message`; `retry` leaves it).
 */
export class Connection {
  stage = "connecting";
  transport = "";
  resume = "";
  #link = null;
  #codec = "";
  #hasRtcFailed = false;
  #hasBeenIn = false;
  #queueTicket = "";
  #lostAt = 0;
  #attempt = 0;
  #wake = () => {};

  /**
   * @param {object} request Hello's session, role, seed, prompt, and the access token
   * @param {{transport: "auto" | "rtc" | "ws", video: HTMLVideoElement}} means
   * @param {object} ears stage(name, detail), message, picture, shown
   */
  constructor(request, means, ears) {
    this.request = request;
    this.means = means;
    this.ears = ears;
  }

  /** Visit the server for as long as the page lives; first by `resume`, if there is such a token from before. */
  async run(resume = "") {
    this.resume = resume;
    this.#codec = await preferredCodec();
    for (;;) {
      this.#enter(this.#lostAt ? "lost" : "connecting", { attempt: this.#attempt });
      await this.#pauseAfter(await this.#visit());
    }
  }

  send(name, fields) {
    this.#link?.send(name, fields);
  }

  sendInput(fields) {
    this.#link?.sendInput(fields);
  }

  /** Try again now: with `request`, somewhere else than before. */
  retry(request) {
    if (request) {
      this.request = request;
      this.resume = "";
    }
    this.#lostAt = this.#attempt = 0;
    this.#wake();
  }

  /** Leave, as when the page is closed; the server keeps the place for a minute. */
  leave() {
    this.#link?.close();
    this.#link = null;
  }

  #enter(stage, detail = {}) {
    this.stage = stage;
    this.ears.stage(stage, detail);
  }

  /** One connection from its opening to its end, which is returned as an error. */
  async #visit() {
    let end = new Unreachable("no transport");
    for (const name of this.#transports()) {
      try {
        end = await this.#ride(name);
      } catch (error) {
        if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
        end = error;
      }
      if (!(end instanceof Unreachable)) return end;
      if (name === "rtc") this.#hasRtcFailed = true;
    }
    return end;
  }

  #transports() {
    if (this.means.transport !== "auto") return [this.means.transport];
    return this.#hasRtcFailed ? ["ws"] : ["rtc", "ws"];
  }

  #hello() {
    const { token, role } = this.request;
    const wanted = this.resume && role === "player" ? { token, role, resume: this.resume } : this.request;
    return { ...wanted, waiting: this.#queueTicket || undefined };
  }

  async #ride(name) {
    const ride = new Ride(this.ears);
    ride.onWelcome = (welcome) => {
      this.resume = welcome.resume;
      this.#hasBeenIn = true;
      this.#queueTicket = "";
      this.transport = ride.link?.name ?? this.transport;
      this.#enter("waiting", welcome);
    };
    ride.onSeating = (seating) => this.#sit(seating, ride.session);
    ride.onFirstPicture = () => {
      this.#lostAt = this.#attempt = 0;
      this.#enter("live");
    };
    const hello = this.#hello();
    ride.link =
      name === "rtc"
        ? await openWebRtc(hello, ride, this.means.video)
        : await openWebSocket({ ...hello, codec: this.#codec }, ride);
    this.#link = ride.link;
    this.transport = ride.link.name;
    const end = await ride.ended();
    this.#link = null;
    if (end instanceof DecoderFailure) this.#codec = "jpeg";
    if (end instanceof Away) this.resume = end.resume || this.resume;
    return end;
  }

  /** Come back, if that is needed, to this place: that of the player, or of a viewer. */
  #sit({ role, resume }, session) {
    this.resume = resume;
    if (role !== this.request.role) this.request = { token: this.request.token, role, session };
  }

  async #pauseAfter(end) {
    if (end instanceof Refusal && end.retryAfter > 0) return this.#pauseBusy(end);
    if (end instanceof Refusal) {
      const isStale = this.resume && !this.#hasBeenIn; // a reload too late to come back: begin anew
      if (end.code !== "session.moved") this.resume = "";
      return isStale ? undefined : this.#pauseRefused(end.code, end.message);
    }
    this.#lostAt ||= performance.now();
    if (performance.now() - this.#lostAt > RESUME_WINDOW_MS) {
      return this.#pauseRefused("connection.lost", "The server has not answered for a minute.");
    }
    const backoff = BACKOFF_MS[Math.min(this.#attempt++, BACKOFF_MS.length - 1)];
    this.#enter("lost", { attempt: this.#attempt, reason: end.message });
    await this.#sleep(end instanceof Away ? end.retryAfter * 1000 : backoff);
  }

  async #pauseBusy({ message, retryAfter, place, waiting }) {
    this.#queueTicket = waiting || this.#queueTicket; // another refusal on the way takes no place from us
    for (let seconds = Math.ceil(retryAfter); seconds > 0; seconds--) {
      this.#enter("busy", { message, seconds, place });
      if (await this.#sleep(1000)) return;
    }
  }

  async #pauseRefused(code, message) {
    this.#enter("refused", { code, message });
    await this.#sleep(Infinity);
  }

  /** @returns {Promise<boolean>} whether `retry` cut the sleep short */
  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(() => resolve(false), ms) : 0;
      this.#wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }
}

/** One link's life: it watches for welcome, pictures, silence, refusal and goodbye. */
class Ride {
  link = null;
  session = "";
  #lastHeard = performance.now();
  #isWelcome = false;
  #hasPicture = false;

  constructor(ears) {
    this.ears = ears;
    this.shown = ears.shown;
    this.end = new Promise((resolve) => (this.closed = resolve));
  }

  message = (message) => {
    this.#lastHeard = performance.now();
    if (message.t === "welcome" && !this.#isWelcome) {
      this.#isWelcome = true;
      this.session = message.session;
      this.onWelcome(message);
    }
    if (message.t === "seating") this.onSeating(message);
    if (message.t === "error" && !isNotice(message)) this.#refused(message);
    if (message.t === "goaway") this.closed(new Away(message.resume, message.retry_after));
    this.ears.message(message);
  };

  /** Who was in already, and may come back, has not lost the place to someone else. */
  #refused({ code, message, retry_after: retryAfter, place, waiting }) {
    const mayComeBack = this.#isWelcome && retryAfter > 0;
    this.closed(mayComeBack ? new Away("", retryAfter) : new Refusal(code, message, { retryAfter, place, waiting }));
  }

  picture = (picture) => {
    this.#lastHeard = performance.now();
    this.ears.picture(picture);
    if (!this.#hasPicture) this.onFirstPicture();
    this.#hasPicture = true;
  };

  /** @returns {Promise<Error>} why it ended; the link is closed by then */
  async ended() {
    const heartbeat = setInterval(() => this.#beat(), 1000);
    const reason = await this.end;
    clearInterval(heartbeat);
    this.link.close();
    return reason;
  }

  #beat() {
    const silence = performance.now() - this.#lastHeard;
    this.link.send("ping", { ts: performance.now() });
    if (!this.#isWelcome && silence > WELCOME_TIMEOUT_MS) this.closed(new Unreachable("no welcome from the server"));
    else if (this.#isWelcome && silence > SILENCE_MS) this.closed(new Error("the server fell silent"));
  }
}
