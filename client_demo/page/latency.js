/** Action-to-photon: from sending an input to showing the first frame whose receipt says that it was applied. */

const MAX_PENDING = 512;
const MAX_SAMPLES = 1024;
const MAX_REPORTED = 64;

export class ActionToPhoton {
  /** Milliseconds, oldest first. */
  samples = [];
  #unreported = [];
  #pending = new Map(); // seq -> time of the first sending
  #newest = -Infinity;

  sent(seq, time) {
    if (this.#pending.has(seq) || this.#pending.size >= MAX_PENDING) return;
    this.#pending.set(seq, time);
  }

  shown(receipt, time) {
    for (const [seq, sentAt] of this.#pending) {
      if (seq > receipt.applied_seq) break;
      this.#pending.delete(seq);
      this.samples.push(time - sentAt);
      this.#unreported.push(time - sentAt);
      this.#newest = time;
    }
    this.samples.splice(0, this.samples.length - MAX_SAMPLES);
  }

  /** The samples since the last call, or the newest of them if they are too many for one message. */
  report() {
    return this.#unreported.splice(0).slice(-MAX_REPORTED);
  }

  /** Inputs under way on a connection that ended will never be answered. */
  forget() {
    this.#pending.clear();
  }

  /** The median of the last `count` samples, or NaN when none is younger than `maxAge` milliseconds at `now`. */
  median(now, { count = 30, maxAge = 10_000 } = {}) {
    if (now - this.#newest > maxAge) return NaN;
    const recent = this.samples.slice(-count).sort((a, b) => a - b);
    return recent[recent.length >> 1];
  }
}
