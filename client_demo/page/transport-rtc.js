/** WebRTC transport: a WHEP offer, H.264 as a media track, messages and controls on two data channels. */

import { iceServersOf } from "./ice.js";
import { pack, Refusal, SUBPROTOCOL, unpack, Unreachable } from "./protocol.js";

const CONNECT_TIMEOUT_MS = 4000;
const PICTURE_TIMEOUT_MS = 4000;
const MAX_UNSENT_BYTES = 16_384;
const MAX_UNMATCHED = 64;

/**
 * Offer, and wait for the `events` channel. Afterwards `ears` is told as with the WebSocket.
 * @returns {Promise<object>} the link: `send`, `sendInput`, `close`
 * @throws {Unreachable} when WebRTC does not connect, {Refusal} when the server says no
 */
export async function openWebRtc(hello, ears, video) {
  if (typeof RTCPeerConnection === "undefined") throw new Unreachable("this browser has no WebRTC");
  const link = new WebRtcLink(ears, video);
  try {
    await link.connect(hello);
  } catch (error) {
    link.close();
    throw error instanceof Refusal ? error : new Unreachable(error.message);
  }
  return link;
}

class WebRtcLink {
  name = "WebRTC";
  location = "";
  firstReceiptAt = 0;
  hasPicture = false;

  constructor(ears, video) {
    this.ears = ears;
    this.video = video;
    this.matcher = new ReceiptMatcher(ears.shown);
    this.peer = new RTCPeerConnection({ iceServers: [] }); // the answer says which ones
    this.events = this.channel("events", { ordered: true });
    this.input = this.channel("input", { ordered: false, maxRetransmits: 0 });
    const transceiver = this.peer.addTransceiver("video", { direction: "recvonly" });
    transceiver.setCodecPreferences?.(codecsByPreference());
    const { receiver } = transceiver;
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    video.srcObject = new MediaStream([receiver.track]);
  }

  channel(label, options) {
    const channel = this.peer.createDataChannel(label, { ...options, protocol: SUBPROTOCOL });
    channel.binaryType = "arraybuffer";
    return channel;
  }

  async connect(hello) {
    const open = this.opened();
    open.catch(() => {}); // awaited below, once the answer is in
    this.events.onmessage = (event) => this.receive(unpack(event.data));
    const offer = await this.peer.createOffer();
    const answer = await this.exchange(offer.sdp, hello);
    await this.peer.setLocalDescription(offer); // not before the answer: this is when candidates are gathered
    await this.peer.setRemoteDescription({ type: "answer", sdp: answer });
    await open;
    this.events.onclose = () => this.end(new Error("the events channel closed"));
    this.peer.onconnectionstatechange = () => this.watchConnection();
    this.watchPictures();
  }

  opened() {
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Unreachable(why));
      const timer = setTimeout(() => fail(`no WebRTC within ${CONNECT_TIMEOUT_MS / 1000} s`), CONNECT_TIMEOUT_MS);
      this.peer.onconnectionstatechange = () => {
        if (this.peer.connectionState === "failed") fail("WebRTC found no way through");
      };
      this.events.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /**
   * WHEP: the offer is posted before any candidate is gathered, so that the answer may name the servers to gather at.
   * The server learns our candidates from our checks.
   */
  async exchange(sdp, { token, ...hello }) {
    const url = new URL("whep", document.baseURI);
    const given = Object.entries(hello).filter(([, value]) => value !== undefined && value !== "");
    url.search = new URLSearchParams(given);
    const headers = { "Content-Type": "application/sdp", ...(token && { Authorization: `Bearer ${token}` }) };
    const response = await fetch(url, { method: "POST", headers, body: sdp }).catch(() => {
      throw new Unreachable("the server does not answer");
    });
    if (!response.ok) throw await refusalOf(response);
    this.location = new URL(response.headers.get("Location") ?? "", url).href;
    this.token = token;
    const iceServers = iceServersOf(response.headers.get("Link"));
    if (iceServers.length) this.peer.setConfiguration({ iceServers });
    return response.text();
  }

  receive(message) {
    if (message.t === "receipt") {
      this.firstReceiptAt ||= performance.now();
      this.matcher.receipt(message);
    }
    this.ears.message(message);
  }

  watchPictures() {
    this.video.play().catch(() => {}); // a muted video may always play; a replaced source aborts the promise
    const onFrame = (now, { rtpTimestamp }) => {
      this.hasPicture = true;
      this.ears.picture(this.video);
      this.matcher.presented(rtpTimestamp, performance.now());
      this.frameRequest = this.video.requestVideoFrameCallback(onFrame);
    };
    this.frameRequest = this.video.requestVideoFrameCallback(onFrame);
    this.pictureTimer = setInterval(() => {
      const isBlind = !this.hasPicture && this.firstReceiptAt && performance.now() - this.firstReceiptAt > PICTURE_TIMEOUT_MS;
      if (isBlind && !document.hidden) this.end(new Unreachable("WebRTC connects but shows no picture"));
    }, 1000);
  }

  watchConnection() {
    if (["failed", "closed"].includes(this.peer.connectionState)) this.end(new Error("WebRTC lost its way"));
  }

  send(name, fields) {
    if (this.events.readyState === "open") this.events.send(pack(name, fields));
  }

  sendInput(fields) {
    const isFree = this.input.readyState === "open" && this.input.bufferedAmount < MAX_UNSENT_BYTES;
    if (isFree) this.input.send(pack("input", fields));
  }

  end(reason) {
    this.close();
    this.ears.closed(reason);
  }

  close() {
    clearInterval(this.pictureTimer);
    if (this.frameRequest) this.video.cancelVideoFrameCallback(this.frameRequest);
    this.events.onclose = this.events.onmessage = this.peer.onconnectionstatechange = null;
    this.peer.close();
    this.video.srcObject = null;
    if (!this.location) return;
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    fetch(this.location, { method: "DELETE", headers, keepalive: true }).catch(() => {}); // the server may be gone
    this.location = "";
  }
}

/** H.264 first: it is what the server encodes once for everyone. */
function codecsByPreference() {
  const { codecs } = RTCRtpReceiver.getCapabilities("video");
  const rank = ({ mimeType }) => (mimeType === "video/H264" ? 0 : 1);
  return codecs.toSorted((one, other) => rank(one) - rank(other));
}

/** What the server has against us, or only against WebRTC with us. */
async function refusalOf(response) {
  const said = await response.json().catch(() => ({}));
  const { code = `http.${response.status}`, message = response.statusText } = said;
  if (/^(offer|rtc|http)\./.test(code)) return new Unreachable(message);
  const isBusy = [429, 503].includes(response.status);
  const retryAfter = Number(said.retry_after ?? response.headers.get("Retry-After")) || (isBusy ? 5 : 0);
  return new Refusal(code, message, { ...said, retryAfter: isBusy ? retryAfter : 0 });
}

/** Pairs receipts with presented frames by RTP timestamp; either may come first. */
class ReceiptMatcher {
  constructor(shown) {
    this.shown = shown;
    this.receipts = new Map();
    this.times = new Map();
    this.newest = null;
  }

  receipt(receipt) {
    this.newest = receipt;
    const time = this.times.get(receipt.rtp);
    if (time === undefined) remember(this.receipts, receipt.rtp, receipt);
    else this.shown(receipt, time);
  }

  /** Browsers that do not tell the RTP timestamp show about the newest receipt's frame. */
  presented(rtp, time) {
    const receipt = rtp === undefined ? this.newest : this.receipts.get(rtp);
    if (receipt) this.shown(receipt, time);
    else if (rtp !== undefined) remember(this.times, rtp, time);
  }
}

function remember(map, key, value) {
  map.set(key, value);
  if (map.size > MAX_UNMATCHED) map.delete(map.keys().next().value);
}
