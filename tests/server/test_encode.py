"""Pictures come back from real decoders as what went in."""

from io import BytesIO
from weakref import ref

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import h264_depayload
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from server.encode import EncodeConfig, Studio, VideoEncoder, ceiling, encode_jpeg, encode_raw, wire_shape

RATE = 1_000_000


def drifting(count: int, *, size: int = 128) -> list[np.ndarray]:
    """Smooth colour that moves behind fixed stripes of colour, one pixel wide: (size, size, 3) uint8 each."""
    y, x = np.mgrid[0:size, 0:size] / size
    stripes = np.arange(size)[:, None] % 2 * np.array([30, 0, -30])
    frames = []
    for t in range(count):
        wave = np.stack([np.sin(6 * x + t / 9), np.cos(9 * y - t / 7), np.sin(5 * (x + y) + t / 5)], -1)
        frames.append(np.clip(127 + 90 * wave + stripes, 0, 255).astype(np.uint8))
    return frames


def decoded(*packets: bytes) -> list[np.ndarray]:
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for data in packets for frame in decoder.decode(av.Packet(data))]
    return [frame.to_ndarray(format="rgb24") for frame in [*frames, *decoder.decode(None)]]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def encoder(upscale: int = 0, bit_rate: int = RATE) -> VideoEncoder:
    return VideoEncoder((128, 128), frame_rate=15.0, config=EncodeConfig(upscale=upscale, bit_rate=bit_rate))


def test_h264_comes_back_and_doubling_keeps_more_colour() -> None:
    quality = {}
    frames = drifting(12)
    for upscale in (1, 2):
        video = encoder(upscale)
        pictures = decoded(*(video.encode(frame, key=False, bit_rate=RATE).data for frame in frames))
        assert len(pictures) == len(frames)
        shown = Image.fromarray(pictures[-1]).resize((128, 128), Image.Resampling.BOX)
        quality[upscale] = psnr(np.asarray(shown), frames[-1])
    assert quality[1] > 25
    assert quality[2] > quality[1] + 3


def test_key_frames_come_first_and_when_asked_for_only() -> None:
    video = encoder()
    pictures = [video.encode(frame, key=i == 7, bit_rate=RATE) for i, frame in enumerate(drifting(12))]
    assert [i for i, picture in enumerate(pictures) if picture.key] == [0, 7]
    assert len(decoded(*(picture.data for picture in pictures[7:]))) == 5  # a joiner needs no earlier frame


def test_the_bit_rate_falls_and_rises_in_flight_without_a_key_frame() -> None:
    noise = np.random.default_rng(1).integers(0, 40, (90, 128, 128, 3), dtype=np.uint8)
    video = encoder()
    pictures = [video.encode(noise[i], key=False, bit_rate=RATE // 5 if 30 <= i < 60 else RATE) for i in range(90)]
    high, low, again = (sum(len(p.data) for p in pictures[i : i + 20]) for i in (10, 40, 70))
    assert low < high / 3
    assert again > 2 * low
    assert [i for i, picture in enumerate(pictures) if picture.key] == [0]


def test_payloads_fit_datagrams_and_carry_the_picture() -> None:
    noise = np.random.default_rng(2).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    picture = encoder(bit_rate=4_000_000).encode(noise, key=True, bit_rate=4_000_000)
    assert len(picture.payloads) > 3
    assert max(map(len, picture.payloads)) <= 1300
    rebuilt = b"".join(h264_depayload(payload) for payload in picture.payloads)
    assert np.array_equal(decoded(rebuilt), decoded(picture.data))


def test_jpeg_is_near_and_raw_is_exact() -> None:
    frame = drifting(1)[0]
    jpeg, raw = encode_jpeg(frame, quality=90), encode_raw(frame)
    assert psnr(np.asarray(Image.open(BytesIO(jpeg.data))), frame) > 35
    assert np.array_equal(np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width, 3), frame)
    assert jpeg.key and raw.key


@given(st.integers(2, 400), st.integers(2, 400), st.integers(0, 4))
def test_wire_sizes_are_even_and_not_smaller_than_a_small_frame(height: int, width: int, upscale: int) -> None:
    tall, wide = wire_shape((height, width), EncodeConfig(upscale=upscale))
    assert tall % 2 == wide % 2 == 0
    assert tall >= height - 1 and wide >= width - 1
    assert (tall >= 2 * height) == (upscale >= 2 or (upscale == 0 and min(height, width) < 256))


@settings(max_examples=5)
@given(st.integers(16, 40), st.integers(16, 40))
def test_any_frame_shape_encodes(height: int, width: int) -> None:
    video = VideoEncoder((height, width), frame_rate=15.0, config=EncodeConfig())
    frame = np.full((height, width, 3), (200, 40, 90), np.uint8)
    (picture,) = decoded(video.encode(frame, key=True, bit_rate=RATE).data)
    assert picture.shape == (video.height, video.width, 3)
    assert np.abs(picture.mean((0, 1)) - (200, 40, 90)).max() < 4  # the colours, not only the shape


def test_a_larger_picture_may_use_more() -> None:
    small, large = (ceiling((s, s), frame_rate=30, config=EncodeConfig()) for s in (128, 384))
    assert 1_000_000 <= small < large <= 4_000_000
    assert ceiling((128, 128), frame_rate=30, config=EncodeConfig(bit_rate=777_000)) == 777_000


@pytest.mark.parametrize("values", [{"upscale": 5}, {"upscale": -1}, {"bit_rate": 1000}])
def test_nonsense_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        EncodeConfig(**values)


def test_a_studio_makes_only_what_is_watched_and_each_once() -> None:
    studio = Studio((128, 128), frame_rate=15.0, config=EncodeConfig())
    frames = drifting(3)
    first = studio.shoot(frames[0], codecs={"h264", "raw"}, key=False, bit_rate=RATE)
    second = studio.shoot(frames[1], codecs={"jpeg"}, key=False, bit_rate=RATE)
    third = studio.shoot(frames[2], codecs={"h264"}, key=False, bit_rate=RATE)
    assert [sorted(pictures) for pictures in (first, second, third)] == [["h264", "raw"], ["jpeg"], ["h264"]]
    assert first["h264"].key and not third["h264"].key
    assert first["raw"].data == frames[0].tobytes()
    assert len(decoded(first["h264"].data, third["h264"].data)) == 2


def test_a_closed_studio_keeps_no_encoder_and_begins_a_new_stream() -> None:
    studio = Studio((128, 128), frame_rate=15.0, config=EncodeConfig())
    frames = drifting(3)
    studio.shoot(frames[0], codecs={"h264"}, key=False, bit_rate=RATE)
    encoder = ref(studio._video)
    studio.close()
    assert encoder() is None
    begun = studio.shoot(frames[1], codecs={"h264"}, key=False, bit_rate=RATE)
    assert begun["h264"].key and len(decoded(begun["h264"].data)) == 1
