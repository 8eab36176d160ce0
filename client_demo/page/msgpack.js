/** The part of msgpack that the protocol uses: nil, bool, int to 2^53, float64, str, bin, array, map. */

const MAX_DEPTH = 16;
const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes that are not the msgpack we speak. */
export class MsgpackError extends Error {}

/**
 * Encode plain values: undefined map values are left out, whole numbers become ints, Uint8Array becomes bin.
 * @returns {Uint8Array}
 */
export function encode(value) {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.bytes.slice(0, writer.length);
}

/**
 * Decode exactly one value; bin is a view into `bytes`, maps have no prototype.
 * @param {Uint8Array} bytes
 * @throws {MsgpackError} on truncation, trailing bytes, ext types, ints past 2^53 and keys that are not strings
 */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.offset !== bytes.length) {
    throw new MsgpackError(`expected one value of ${reader.offset} bytes, got ${bytes.length}`);
  }
  return value;
}

class Writer {
  bytes = new Uint8Array(256);
  view = new DataView(this.bytes.buffer);
  length = 0;

  reserve(size) {
    const start = this.length;
    this.length += size;
    if (this.length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.length, 2 * this.bytes.length));
      grown.set(this.bytes);
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    return start;
  }

  value(value, depth) {
    if (depth > MAX_DEPTH) throw new MsgpackError(`expected at most ${MAX_DEPTH} levels`);
    if (value === null || value === undefined) this.byte(0xc0);
    else if (value === false) this.byte(0xc2);
    else if (value === true) this.byte(0xc3);
    else if (typeof value === "number") this.number(value);
    else if (typeof value === "string") this.string(value);
    else if (value instanceof Uint8Array) this.binary(value);
    else if (Array.isArray(value)) this.array(value, depth);
    else if (typeof value === "object") this.map(value, depth);
    else throw new MsgpackError(`expected a plain value, got ${typeof value}`);
  }

  byte(byte) {
    const at = this.reserve(1);
    this.view.setUint8(at, byte);
  }

  number(value) {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) this.integer(value);
    else this.tagged(0xcb, 8, (at) => this.view.setFloat64(at, value));
  }

  integer(value) {
    if (value >= 0) {
      if (value < 0x80) this.byte(value);
      else if (value < 0x100) this.tagged(0xcc, 1, (at) => this.view.setUint8(at, value));
      else if (value < 0x10000) this.tagged(0xcd, 2, (at) => this.view.setUint16(at, value));
      else if (value < 0x100000000) this.tagged(0xce, 4, (at) => this.view.setUint32(at, value));
      else this.tagged(0xcf, 8, (at) => this.view.setBigUint64(at, BigInt(value)));
    } else if (value >= -0x20) this.byte(value & 0xff);
    else if (value >= -0x80) this.tagged(0xd0, 1, (at) => this.view.setInt8(at, value));
    else if (value >= -0x8000) this.tagged(0xd1, 2, (at) => this.view.setInt16(at, value));
    else if (value >= -0x80000000) this.tagged(0xd2, 4, (at) => this.view.setInt32(at, value));
    else this.tagged(0xd3, 8, (at) => this.view.setBigInt64(at, BigInt(value)));
  }

  tagged(tag, size, write) {
    this.byte(tag);
    write(this.reserve(size));
  }

  /** A length under a one-byte form (`fixed` up to `limit`) or the 8, 16 and 32 bit `tags`, of which 8 may be 0. */
  header(length, fixed, limit, tags) {
    if (length < limit) this.byte(fixed | length);
    else if (length < 0x100 && tags[0]) this.tagged(tags[0], 1, (at) => this.view.setUint8(at, length));
    else if (length < 0x10000) this.tagged(tags[1], 2, (at) => this.view.setUint16(at, length));
    else this.tagged(tags[2], 4, (at) => this.view.setUint32(at, length));
  }

  raw(bytes) {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }

  string(value) {
    const bytes = utf8Encoder.encode(value);
    this.header(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
    this.raw(bytes);
  }

  binary(value) {
    this.header(value.length, 0, 0, [0xc4, 0xc5, 0xc6]);
    this.raw(value);
  }

  array(value, depth) {
    this.header(value.length, 0x90, 16, [0, 0xdc, 0xdd]);
    for (const item of value) this.value(item, depth + 1);
  }

  map(value, depth) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    this.header(entries.length, 0x80, 16, [0, 0xde, 0xdf]);
    for (const [key, item] of entries) {
      this.string(key);
      this.value(item, depth + 1);
    }
  }
}

class Reader {
  offset = 0;

  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  take(size) {
    const start = this.offset;
    if (start + size > this.bytes.length) {
      throw new MsgpackError(`expected ${size} bytes at ${start}, got ${this.bytes.length - start}`);
    }
    this.offset += size;
    return start;
  }

  value(depth) {
    if (depth > MAX_DEPTH) throw new MsgpackError(`expected at most ${MAX_DEPTH} levels`);
    const tag = this.view.getUint8(this.take(1));
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.array(tag & 0x0f, depth);
    if (tag < 0xc0) return this.string(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.tagged(tag, depth);
  }

  tagged(tag, depth) {
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.binary(this.unsigned(1 << (tag - 0xc4)));
      case 0xca: return this.view.getFloat32(this.take(4));
      case 0xcb: return this.view.getFloat64(this.take(8));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return this.unsigned(1 << (tag - 0xcc));
      case 0xd0: return this.view.getInt8(this.take(1));
      case 0xd1: return this.view.getInt16(this.take(2));
      case 0xd2: return this.view.getInt32(this.take(4));
      case 0xd3: return this.safe(this.view.getBigInt64(this.take(8)));
      case 0xd9: case 0xda: case 0xdb: return this.string(this.unsigned(1 << (tag - 0xd9)));
      case 0xdc: case 0xdd: return this.array(this.unsigned(2 << (tag - 0xdc)), depth);
      case 0xde: case 0xdf: return this.map(this.unsigned(2 << (tag - 0xde)), depth);
      default: throw new MsgpackError(`expected no ext types, got tag 0x${tag.toString(16)}`);
    }
  }

  unsigned(size) {
    const at = this.take(size);
    if (size === 1) return this.view.getUint8(at);
    if (size === 2) return this.view.getUint16(at);
    if (size === 4) return this.view.getUint32(at);
    return this.safe(this.view.getBigUint64(at));
  }

  safe(big) {
    const number = Number(big);
    if (!Number.isSafeInteger(number)) throw new MsgpackError(`expected an int up to 2^53, got ${big}`);
    return number;
  }

  string(size) {
    const start = this.take(size);
    try {
      return utf8Decoder.decode(this.bytes.subarray(start, this.offset));
    } catch {
      throw new MsgpackError(`expected UTF-8 at ${start}`);
    }
  }

  binary(size) {
    const start = this.take(size);
    return this.bytes.subarray(start, this.offset);
  }

  array(size, depth) {
    const items = [];
    for (let i = 0; i < size; i++) items.push(this.value(depth + 1));
    return items;
  }

  map(size, depth) {
    const object = Object.create(null);
    for (let i = 0; i < size; i++) {
      const key = this.value(depth + 1);
      if (typeof key !== "string") throw new MsgpackError(`expected a string key, got ${typeof key}`);
      object[key] = this.value(depth + 1);
    }
    return object;
  }
}
