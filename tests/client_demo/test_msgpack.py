"""The page's msgpack against Python's, in the browser."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

LARGEST = 2**53 - 1
RECODE = """async (hex) => {
  const { decode, encode, MsgpackError } = await import("/msgpack.js");
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  try {
    return [...encode(decode(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  } catch (error) {
    return error instanceof MsgpackError ? "refused: " + error.message : "crashed: " + error;
  }
}"""
# whole floats are left out: JavaScript has one number type, so they come back as ints
atoms = (
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(allow_nan=False).filter(lambda number: not number.is_integer())
    | st.text()
    | st.binary(max_size=300)
)
values = st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def recode(page: Page, packed: bytes) -> str:
    """What the page makes of the bytes: decoded, encoded again and as hex, or how it refused them."""
    result: str = page.evaluate(RECODE, packed.hex())
    return result


@settings(max_examples=150)
@given(values)
def test_every_value_comes_back_the_same_and_as_short(modules: Page, value: Any) -> None:
    packed = msgpack.packb(value)
    again = bytes.fromhex(recode(modules, packed))
    assert msgpack.unpackb(again) == value
    assert len(again) == len(packed)


EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 2**32 - 1, 2**32, LARGEST]
NEGATIVE = [-1, -0x20, -0x21, -0x80, -0x81, -0x8000, -0x8001, -(2**31), -(2**31) - 1, -LARGEST]
LENGTHS = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536]


@pytest.mark.parametrize(
    "value",
    EDGES
    + NEGATIVE
    + [0.5, -0.0, 5e-324, 1.7976931348623157e308, float("inf")]
    + ["é", "日本", "🙂", "\0", "\ufeffmark"]
    + ["x" * length for length in LENGTHS]
    + [b"x" * length for length in LENGTHS]
    + [[7] * length for length in LENGTHS]
    + [{f"k{i}": i for i in range(length)} for length in (0, 1, 15, 16, 300)]
    + [{"__proto__": 1, "constructor": 2}],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12].encode('ascii', 'replace').decode()}-{len(str(value))}",
)
def test_edges_are_byte_equal(modules: Page, value: Any) -> None:
    packed = msgpack.packb(value)
    assert recode(modules, packed) == packed.hex()


def test_single_precision_is_read(modules: Page) -> None:
    packed = msgpack.packb(0.25, use_single_float=True)
    assert recode(modules, packed) == msgpack.packb(0.25).hex()


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"", "expected 1 bytes"),
        (msgpack.packb({"t": "frame", "data": b"1234"})[:-1], "expected 4 bytes"),
        (msgpack.packb(1) + msgpack.packb(2), "expected one value"),
        (msgpack.packb(2**53), "up to 2^53"),
        (msgpack.packb(-(2**53)), "up to 2^53"),
        (msgpack.packb({1: 2}), "string key"),
        (msgpack.packb(msgpack.ExtType(1, b"x")), "no ext types"),
        (b"\xc1", "no ext types"),
        (b"\xa2\xff\xff", "UTF-8"),
        (b"\x91" * 40 + b"\xc0", "levels"),
        (b"\xdd\xff\xff\xff\xff", "expected 1 bytes"),
    ],
)
def test_what_is_not_ours_is_refused(modules: Page, packed: bytes, reason: str) -> None:
    said = recode(modules, packed)
    assert said.startswith("refused: ")
    assert reason in said


def test_every_truncation_is_refused(modules: Page) -> None:
    packed = msgpack.packb({"a": [1, 2.5, "text", b"bin", None], "b": {"c": -70_000, "d": 2**40}})
    assert recode(modules, packed) == packed.hex()
    for length in range(len(packed)):
        assert recode(modules, packed[:length]).startswith("refused: ")
