/** WebSocket transport: messages and pictures on one socket, H.264 through WebCodecs or JPEG bitmaps. */

import { pack, SUBPROTOCOL, unpack, Unreachable } from "./protocol.js";

const OPEN_TIMEOUT_MS = 8000;
const MAX_UNSENT_BYTES = 65_536;

/** What this browser decodes best; WebCodecs exists in secure contexts only. */
export async function preferredCodec() {
  if (typeof VideoDecoder === "undefined") return "jpeg";
  const { supported } = await VideoDecoder.isConfigSupported({ codec: "avc1.42E01F" });
  return supported ? "h264" : "jpeg";
}

/**
 * Connect and say Hello. Afterwards `ears.message`, `ears.picture`, `ears.shown` and, once, `ears.closed` are called.
 * @returns {Promise<object>} the link: `send`, `sendInput`, `close`
 * @throws {Unreachable} when the socket does not open
 */
export async function openWebSocket(hello, ears) {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = url.hash = "";
  const socket = new WebSocket(url, SUBPROTOCOL);
  socket.binaryType = "arraybuffer";
  await opened(socket);
  const link = new WebSocketLink(socket, ears);
  link.send("hello", hello);
  return link;
}

function opened(socket) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.close();
      reject(new Unreachable(`no WebSocket within ${OPEN_TIMEOUT_MS / 1000} s`));
    }, OPEN_TIMEOUT_MS);
    socket.onopen = () => {
      clearTimeout(timer);
      resolve();
    };
    socket.onclose = () => {
      clearTimeout(timer);
      reject(new Unreachable("the WebSocket did not open"));
    };
  });
}

class WebSocketLink {
  name = "WebSocket";

  constructor(socket, ears) {
    this.socket = socket;
    this.ears = ears;
    this.decoders = {};
    socket.onmessage = (event) => this.receive(unpack(event.data));
    socket.onclose = (event) => this.end(new Error(event.reason || `the WebSocket closed (${event.code})`));
  }

  receive(message) {
    if (message.t !== "frame") this.ears.message(message);
    else this.decoderFor(message.codec).decode(message);
  }

  decoderFor(codec) {
    const Decoder = codec === "h264" ? H264Decoder : BitmapDecoder;
    return (this.decoders[codec] ??= new Decoder(
      (picture, receipt) => this.show(picture, receipt),
      (error) => this.end(error),
    ));
  }

  show(picture, receipt) {
    this.ears.picture(picture);
    picture.close();
    this.send("ack", { frame: receipt.frame });
    requestAnimationFrame(() => this.ears.shown(receipt, performance.now()));
  }

  send(name, fields) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(pack(name, fields));
  }

  /** Input is full state, so on a choked socket the newest later one stands for this one. */
  sendInput(fields) {
    if (this.socket.bufferedAmount < MAX_UNSENT_BYTES) this.send("input", fields);
  }

  end(reason) {
    this.close();
    this.ears.closed(reason);
  }

  close() {
    this.socket.onclose = this.socket.onmessage = null;
    this.socket.close();
    for (const decoder of Object.values(this.decoders)) decoder.close();
    this.decoders = {};
  }
}

/** The browser decodes H.264 but not this stream. */
export class DecoderFailure extends Error {}

class H264Decoder {
  constructor(show, fail) {
    this.receipts = new Map(); // by our own count of pictures, as a frame may be sent twice
    this.count = 0;
    this.codec = "";
    this.decoder = new VideoDecoder({
      output: (picture) => show(picture, this.take(picture.timestamp)),
      error: (error) => fail(new DecoderFailure(error.message)),
    });
    this.fail = fail;
  }

  decode({ data, key, receipt, width, height }) {
    if (key) this.configure(codecOf(data), width, height);
    if (!this.codec) return; // a delta before the first key frame
    const timestamp = ++this.count;
    this.receipts.set(timestamp, receipt);
    this.decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp, data }));
  }

  configure(codec, codedWidth, codedHeight) {
    if (!codec) return this.fail(new DecoderFailure("expected a key frame with a sequence parameter set"));
    if (codec === this.codec) return;
    this.codec = codec;
    this.decoder.configure({ codec, codedWidth, codedHeight, optimizeForLatency: true });
  }

  take(timestamp) {
    const receipt = this.receipts.get(timestamp);
    for (const older of this.receipts.keys()) {
      if (older <= timestamp) this.receipts.delete(older);
    }
    return receipt;
  }

  close() {
    if (this.decoder.state !== "closed") this.decoder.close();
  }
}

/** The codec string of an Annex B key frame, from its sequence parameter set (RFC 6381, section 3.3), or empty. */
function codecOf(data) {
  for (let i = 0; i + 6 < data.length; i++) {
    const isParameterSet = data[i] === 0 && data[i + 1] === 0 && data[i + 2] === 1 && (data[i + 3] & 0x1f) === 7;
    if (isParameterSet) {
      return "avc1." + [...data.subarray(i + 4, i + 7)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    }
  }
  return "";
}

/** Decodes one picture at a time; of those that arrive meanwhile only the newest is kept. */
class BitmapDecoder {
  constructor(show, fail) {
    this.show = show;
    this.fail = fail;
    this.waiting = null;
    this.isBusy = false;
    this.isClosed = false;
  }

  async decode(frame) {
    this.waiting = frame;
    if (this.isBusy) return;
    this.isBusy = true;
    while (this.waiting && !this.isClosed) await this.decodeWaiting();
    this.isBusy = false;
  }

  async decodeWaiting() {
    const { data, receipt } = this.waiting;
    this.waiting = null;
    try {
      const picture = await createImageBitmap(new Blob([data]));
      if (!this.isClosed) this.show(picture, receipt);
    } catch (error) {
      this.fail(new DecoderFailure(error.message));
    }
  }

  close() {
    this.isClosed = true;
  }
}
