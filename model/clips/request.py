"""What a clip is asked to be: values that travel as JSON, into a job's folder and into the finished file's comment."""

import shlex
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ..world_model import ModelSpec
from .timeline import Timeline

FORMAT = "rewander.clip.v1"
MAX_SECONDS = 86_400
MAX_SIDE = 4096  # pixels: H.264 level 5.1, which decoders in hardware end at

Order = Literal["vanilla", "endpoint", "planned", "inverted"]
Positive = Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Model = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
Side = Annotated[int, msgspec.Meta(ge=16, le=MAX_SIDE, multiple_of=2)]


class RequestError(ValueError):
    """A request that cannot be fulfilled; the message says what was expected and what came."""


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Pictures that a clip begins or ends with: paths of files, at most one of `image` and `video`."""

    image: str = ""
    video: str = ""  # to be extended
    end: str = ""  # an image to arrive at
    history_seconds: Annotated[float, msgspec.Meta(gt=0, le=30)] = 8.0  # of the video, that the model sees
    keep: bool = True  # show what was given too, before and after the new frames

    def files(self) -> dict[str, Path]:
        """The files by field."""
        named = {"image": self.image, "video": self.video, "end": self.end}
        return {name: Path(path) for name, path in named.items() if path}


class ClipRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that decides what the frames are; the same request gives the same frames on the same machine."""

    model: Model = "rooms"  # its name, and settings behind it
    seconds: Positive = 5.0  # of new frames
    seed: Count = 0
    timeline: str = ""
    prompt: Text = ""
    order: Order = "vanilla"
    schedule: str = ""  # the order's own if empty
    endpoints: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1  # planned first, in the planned order
    size: tuple[Side, Side] | None = None  # width and height; chosen by the model's frames if None
    recall: bool = True
    given: Given = Given()
    revive: tuple[Count, ...] = ()  # sections before which a run this one repeats was interrupted


class Tag(msgspec.Struct, frozen=True):
    """The comment of a finished file, as JSON: how to make it again."""

    request: ClipRequest
    command: str
    version: str  # of Rewander
    new_frames: int
    first_new: int  # frames before are given ones
    sha256: dict[str, str]  # of the given files
    format: str = FORMAT


def parse_tag(comment: str) -> Tag:
    """Read a finished file's comment; raises RequestError if Rewander did not write it."""
    try:
        tag = msgspec.json.decode(comment, type=Tag)
    except msgspec.DecodeError as error:
        raise RequestError(f"expected a comment by Rewander: {error}") from error
    if tag.format != FORMAT:
        raise RequestError(f"expected a comment of format {FORMAT}, got {tag.format!r}")
    return tag


def check_values(request: ClipRequest) -> Timeline:
    """What can be said without the model: the parsed timeline, or RequestError or TimelineError."""
    try:
        msgspec.convert(msgspec.to_builtins(request), ClipRequest)  # made in Python, nothing has checked the ranges
    except msgspec.ValidationError as error:
        raise RequestError(f"expected a clip's request: {error}") from error
    if request.given.image and request.given.video:
        raise RequestError("expected an image or a video to begin with, got both")
    return Timeline.parse(request.timeline)


def rate_of(spec: ModelSpec) -> Fraction:
    """Frames per second, as video files have it."""
    return Fraction(spec.frame_rate).limit_denominator(1001)


def section_frames(spec: ModelSpec) -> int:
    return spec.section_latents * spec.frames_per_latent


def num_new_frames(request: ClipRequest, spec: ModelSpec) -> int:
    """The nearest number of frames, at least one; of whole sections if they must arrive at an end."""
    wanted, section = Fraction(request.seconds) * rate_of(spec), section_frames(spec)
    if request.given.end:
        return max(1, round(wanted / section)) * section
    return max(1, round(wanted))


def num_sections(request: ClipRequest, spec: ModelSpec) -> int:
    return ceil(num_new_frames(request, spec) / section_frames(spec))


def output_size(request: ClipRequest, spec: ModelSpec) -> tuple[int, int]:
    """Width and height of the file's frames, even as 4:2:0 must be; raises RequestError for a size of other aspect.

    By default small frames are enlarged, since 4:2:0 halves the resolution of colours and few players enlarge well.
    """
    height, width = spec.frame_shape
    if request.size is None:
        times = min(4, ceil(512 / min(height, width))) if min(height, width) < 256 else 1
        return width * times // 2 * 2, height * times // 2 * 2
    wide, high = request.size
    if abs(wide * height - high * width) > 2 * max(height, width):
        raise RequestError(f"expected a size with the aspect of the model's {width}x{height}, got {wide}x{high}")
    return request.size


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `512x512`; raises RequestError."""
    wide, cross, high = text.partition("x")
    if not (cross and wide.isdecimal() and high.isdecimal()):
        raise RequestError(f"expected a size like 512x512, got {text!r}")
    size = int(wide), int(high)
    if not all(16 <= side <= MAX_SIDE and side % 2 == 0 for side in size):
        raise RequestError(f"expected even sides of 16 to {MAX_SIDE} pixels, got {text}")
    return size


def command_line(request: ClipRequest, out: Path) -> str:
    """The shell command that asks for the clip: options where they differ from the defaults."""
    usual, given = ClipRequest(), request.given
    words = ["rewander", "generate", str(out)]
    for name in ("model", "seconds", "seed", "timeline", "prompt", "order", "schedule", "endpoints"):
        if (value := getattr(request, name)) != getattr(usual, name):
            words += [f"--{name}", str(value)]
    if request.size is not None:
        words += ["--size", "x".join(map(str, request.size))]
    for name, path in given.files().items():
        words += [f"--{name}", str(path)]
    if given.history_seconds != usual.given.history_seconds:
        words += ["--history", str(given.history_seconds)]
    words += [word for word, used in (("--no-recall", not request.recall), ("--no-keep", not given.keep)) if used]
    return shlex.join(words)
