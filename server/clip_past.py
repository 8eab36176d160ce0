"""What a clip goes on from: a given image, or the end of a given video as the model sees it."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from model.clips.fit import fit
from model.clips.footage import count_frames, last_frames, read_frames
from model.clips.job import Job
from model.clips.mp4 import open_video, read_comment
from model.clips.request import ClipRequest, RequestError, parse_tag, rate_of, section_frames
from model.clips.timeline import Timeline, TimelineError
from model.world_model import ModelSpec, Section, WorldModel

from .upload import read_image

CHUNK = 32  # frames encoded at a time


@runtime_checkable
class VideoModel(WorldModel, Protocol):
    """A WorldModel whose latents hold several frames, and that encodes a video as such."""

    def encode_video(self, frames: np.ndarray) -> np.ndarray:
        """Latents (1 + (n - 1) / frames_per_latent, C, h, w) float16 of frames (n, H, W, 3) uint8; the first alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What there is before the first new section."""

    image: np.ndarray | None  # (H, W, 3) to open the model's state with; None for a start of the model's choice
    sections: tuple[Section, ...] = ()  # after that image


def check_given(request: ClipRequest) -> None:
    """Raise OSError, VideoError or ProtocolError for given files that are not what they should be."""
    for name, path in request.given.files().items():
        if name == "video":
            with open_video(path):
                pass
        else:
            read_image(path.read_bytes())


def read_past(job: Job, model: WorldModel) -> Past:
    """Raises ValueError for files that are not what they should be, or that the model cannot begin with."""
    given = job.ticket.request.given
    if (given.image or given.video) and not model.spec.accepts_image:
        raise RequestError(f"expected no image or video, since {model.spec.name} takes none, got one")
    if given.video:
        return _encode(job, model)
    return Past(read_image(job.given("image").read_bytes()) if given.image else None)


def num_shown_before(job: Job, model: WorldModel) -> int:
    """How many frames `shown_before` gives."""
    given = job.ticket.request.given
    if given.keep and given.video:
        return count_frames(job.given("video"), rate=rate_of(model.spec))
    return int(given.keep and bool(given.image))


def shown_before(job: Job, model: WorldModel) -> Iterator[np.ndarray]:
    """The given frames (H, W, 3) that the clip shows before the new ones."""
    given, shape = job.ticket.request.given, model.spec.frame_shape
    if given.keep and given.video:
        yield from read_frames(job.given("video"), rate=rate_of(model.spec), shape=shape)
    elif given.keep and given.image:
        yield fit(read_image(job.given("image").read_bytes()), shape=shape)


def end_of(job: Job, model: WorldModel) -> np.ndarray | None:
    """The given end frame (H, W, 3)."""
    if not job.ticket.request.given.end:
        return None
    return fit(read_image(job.given("end").read_bytes()), shape=model.spec.frame_shape)


def _encode(job: Job, model: WorldModel) -> Past:
    spec, path = model.spec, job.given("video")
    if spec.frames_per_latent > 1 and not isinstance(model, VideoModel):
        raise RequestError(
            f"expected a model that encodes videos to extend one, got {spec.name}: give it the last frame as an image"
        )
    wanted = max(1, round(Fraction(job.ticket.request.given.history_seconds) * rate_of(spec)))
    skipped, reading = last_frames(path, wanted, rate=rate_of(spec), shape=spec.frame_shape)
    frames = list(reading)
    surplus = (len(frames) - 1) % section_frames(spec)  # too old to fill a section
    seen = np.stack(frames[surplus:])
    if len(seen) == 1:
        return Past(seen[0])
    if isinstance(model, VideoModel):
        latents = model.encode_video(seen)[1:]
    else:
        latents = np.concatenate([model.encode(seen[i : i + CHUNK]) for i in range(1, len(seen), CHUNK)])
    first = skipped + surplus
    poses = _poses(job, model, seen[0], frames=range(first + 1, first + len(seen)))
    return Past(seen[0], tuple(_sections(spec, latents, poses)))


def _poses(job: Job, model: WorldModel, image: np.ndarray, *, frames: range) -> np.ndarray:
    """Where the camera was at each latent of the video's `frames`, by its controls if it is a clip of this model."""
    spec = model.spec
    if not spec.has_pose:
        return np.zeros((len(frames) // spec.frames_per_latent, 3), np.float32)
    controls = _recorded_controls(job.given("video"), spec, model_name=job.ticket.request.model, frames=frames)
    state = model.open(image=image, prompt="", seed=job.ticket.request.seed)
    return model.expected_poses(state, controls)[spec.frames_per_latent - 1 :: spec.frames_per_latent]


def _recorded_controls(path: Path, spec: ModelSpec, *, model_name: str, frames: range) -> np.ndarray:
    """Controls (n, A) that led to the video's `frames`: at rest if nothing is known of them."""
    axes, rate = tuple(axis.name for axis in spec.controls.axes), rate_of(spec)
    try:
        tag = parse_tag(read_comment(path))
        timeline = Timeline.parse(tag.request.timeline if tag.request.model == model_name else "")
        timeline.check(axes=axes, accepts_prompt=True, seconds=Fraction(tag.new_frames + 1) / rate)
        shift = tag.first_new
    except (RequestError, TimelineError):  # somebody else's video
        timeline, shift = Timeline(), 0
    return timeline.controls(range(frames.start - shift, frames.stop - shift), axes=axes, rate=rate)


def _sections(spec: ModelSpec, latents: np.ndarray, poses: np.ndarray) -> Iterator[Section]:
    size = spec.section_latents
    for first in range(0, len(latents), size):
        yield Section(latents[first : first + size], poses[first : first + size])
