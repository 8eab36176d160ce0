"""Turn frames into pictures for the wire: H.264 by x264, JPEG, or raw rows."""

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Literal

import av
import numpy as np
from aiortc.codecs.h264 import H264Encoder as H264Packer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import Interpolation
from PIL import Image

Codec = Literal["h264", "jpeg", "raw"]

SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
BT601 = 6  # AVCOL_*_SMPTE170M: what decoders assume of small video, said aloud
LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
LEAST_BIT_RATE = 150_000


@dataclass(frozen=True, slots=True)
class EncodeConfig:
    """How pictures are made. Zero means: chosen by the size of the frames."""

    bit_rate: int = 0  # bits per second, the ceiling of the rate control
    upscale: int = 0  # H.264 only: 4:2:0 halves colour resolution, so small frames are doubled first
    preset: str = "superfast"
    buffer_seconds: float = 0.1  # VBV: no frame takes longer than this at the bit rate
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        if not 0 <= self.upscale <= 4:
            raise ValueError(f"expected an upscale of 1 to 4, or 0 to choose, got {self.upscale}")
        if not (self.bit_rate == 0 or LEAST_BIT_RATE <= self.bit_rate <= 100_000_000):
            raise ValueError(f"expected a bit rate of {LEAST_BIT_RATE} to 100000000 or 0, got {self.bit_rate}")


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded frame. `payloads` are its RTP payloads (RFC 6184), packed once for every peer; H.264 only."""

    codec: Codec
    key: bool  # stands alone
    width: int
    height: int
    data: bytes  # H.264: Annex B with parameter sets before key frames; raw: RGB rows
    payloads: tuple[bytes, ...] = ()


def wire_shape(frame_shape: tuple[int, int], config: EncodeConfig) -> tuple[int, int]:
    """Height and width of the H.264 pictures of frames of (H, W): even, as 4:2:0 must be."""
    upscale = config.upscale or (2 if min(frame_shape) < 256 else 1)
    return frame_shape[0] * upscale // 2 * 2, frame_shape[1] * upscale // 2 * 2


def ceiling(frame_shape: tuple[int, int], *, frame_rate: float, config: EncodeConfig) -> int:
    """Bits per second that the encoder may use at most: by default half a bit per pixel on the wire, 1 to 4 Mbit/s."""
    height, width = wire_shape(frame_shape, config)
    return config.bit_rate or int(min(max(0.5 * height * width * frame_rate, 1e6), 4e6))


class VideoEncoder:
    """libx264, one picture for each frame at once. One thread at a time may call it."""

    def __init__(self, frame_shape: tuple[int, int], *, frame_rate: float, config: EncodeConfig) -> None:
        self.height, self.width = wire_shape(frame_shape, config)
        bit_rate = ceiling(frame_shape, frame_rate=frame_rate, config=config)
        self._codec = _open_x264(
            (self.height, self.width), Fraction(frame_rate).limit_denominator(1001), bit_rate, config
        )
        self._packer = H264Packer()
        self._count = 0

    def encode(self, frame: np.ndarray, *, key: bool, bit_rate: int) -> Picture:
        """Encode one RGB frame (H, W, 3) at `bit_rate`, which changes in flight and needs no key frame."""
        # x264 takes a new rate only in a stream that began as CBR (maxrate = bit rate), which ours did.
        self._codec.bit_rate = bit_rate
        # threads=1: swscale's own threads wait a scheduler tick (16 ms) each on a busy machine.
        image = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            width=self.width, height=self.height, format="yuv420p", interpolation=SCALING, threads=1
        )
        image.pts = self._count
        image.pict_type = PictureType.I if key else PictureType.NONE
        self._count += 1
        (packet,) = self._codec.encode(image)  # zerolatency: one picture out for each frame in
        payloads, _ = self._packer.pack(packet)
        return Picture("h264", packet.is_keyframe, self.width, self.height, bytes(packet), tuple(payloads))


def _open_x264(shape: tuple[int, int], rate: Fraction, bit_rate: int, config: EncodeConfig) -> VideoCodecContext:
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, VideoCodecContext)
    codec.height, codec.width = shape
    codec.pix_fmt = "yuv420p"
    codec.framerate, codec.time_base = rate, 1 / rate
    codec.bit_rate = bit_rate
    codec.thread_count = 1  # the other cores belong to the model
    codec.color_primaries = codec.color_trc = codec.colorspace = BT601
    codec.color_range = LIMITED_RANGE
    codec.profile = "Baseline"
    codec.options = {
        "preset": config.preset,
        "tune": "zerolatency",
        "maxrate": str(bit_rate),
        "bufsize": str(int(bit_rate * config.buffer_seconds)),
        "forced-idr": "1",
        "x264-params": "keyint=infinite:scenecut=0",  # key frames are asked for
    }
    codec.open()
    return codec


def encode_jpeg(frame: np.ndarray, *, quality: int) -> Picture:
    """Encode one RGB frame (H, W, 3) with full colour resolution."""
    buffer = BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling=0)
    return Picture("jpeg", True, frame.shape[1], frame.shape[0], buffer.getvalue())


def encode_raw(frame: np.ndarray) -> Picture:
    """The frame itself, losslessly: rows of RGB bytes."""
    return Picture("raw", True, frame.shape[1], frame.shape[0], frame.tobytes())


class Studio:
    """Makes each frame's pictures, one for each codec that is watched. One thread at a time may call it."""

    def __init__(self, frame_shape: tuple[int, int], *, frame_rate: float, config: EncodeConfig) -> None:
        self._frame_shape, self._frame_rate, self._config = frame_shape, frame_rate, config
        self._video: VideoEncoder | None = None

    def shoot(self, frame: np.ndarray, *, codecs: Collection[Codec], key: bool, bit_rate: int) -> dict[Codec, Picture]:
        """Pictures of one RGB frame (H, W, 3); `key` and `bit_rate` are for H.264."""
        pictures: dict[Codec, Picture] = {}
        if "h264" in codecs:
            self._video = self._video or VideoEncoder(
                self._frame_shape, frame_rate=self._frame_rate, config=self._config
            )
            pictures["h264"] = self._video.encode(frame, key=key, bit_rate=bit_rate)
        if "jpeg" in codecs:
            pictures["jpeg"] = encode_jpeg(frame, quality=self._config.jpeg_quality)
        if "raw" in codecs:
            pictures["raw"] = encode_raw(frame)
        return pictures

    def close(self) -> None:
        """Let the encoder's memory go; the next H.264 picture begins a new stream."""
        self._video = None
