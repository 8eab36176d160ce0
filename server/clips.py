"""`rewander generate`: run the jobs of a queue, one after the other, each from where it was left."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
from av import FFmpegError
from PIL import Image

from model.clips.job import Job, JobError
from model.clips.latents import LatentFile
from model.clips.making import Film, Maker, Progress, produce
from model.clips.mp4 import Mp4Writer
from model.clips.planned import PlannedMaker, PlannedModel, Stage, check_order
from model.clips.queue import claim, claim_next, sweep
from model.clips.request import (
    ClipRequest,
    RequestError,
    Tag,
    check_values,
    command_line,
    num_new_frames,
    num_sections,
    output_size,
    rate_of,
)
from model.clips.timeline import Timeline
from model.world_model import WorldModel

from .clip_maker import CausalMaker, state_after
from .clip_past import Past, check_given, end_of, num_shown_before, read_past, shown_before

PREVIEW_SECONDS = 2.0  # between pictures in the job's folder

Load = Callable[[str], WorldModel]  # by the entry point's name
Tell = Callable[[Job, Progress], None]

_USERS = (ValueError, OSError, JobError, FFmpegError)  # what a request, a file or a disk can cause
_MODELS = (ArithmeticError, AttributeError, ImportError, LookupError, MemoryError, RuntimeError, TypeError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended."""

    name: str
    state: Literal["done", "failed", "cancelled"]
    out: Path
    problem: str = ""


class Studio:
    """Loads models for jobs and keeps the last one, since the next job is likely to want it too."""

    def __init__(self, load: Load, *, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        """`tell` hears of every denoise step; `clock` in seconds paces previews."""
        self._load, self._tell, self._clock = load, tell, clock
        self._loaded: tuple[str, WorldModel] | None = None

    def run_queue(self, queue: Path) -> Iterator[Ended]:
        """Run jobs until none is waiting, those that come meanwhile too. A job that fails ends no other."""
        sweep(queue)
        while (job := claim_next(queue)) is not None:
            yield self._run(job)

    def run_one(self, queue: Path, name: str) -> Ended:
        """Run one waiting job, or go on with it; raises JobError if it is not waiting."""
        return self._run(claim(queue, name))

    def check(self, request: ClipRequest) -> None:
        """Raise for a request that would fail: RequestError, TimelineError, OrderError, VideoError, OSError, ..."""
        check_given(request)
        check(request, self._model(request.model))

    def _run(self, job: Job) -> Ended:
        with job:
            try:
                job.begin()
                is_done = job.is_delivered() or self._make(job)
                if is_done:
                    job.deliver()
            except KeyboardInterrupt:
                job.tidy()
                job.pause()
                raise
            except _USERS as error:
                return _failed(job, error)
            except _MODELS as error:
                logger.exception("job %s", job.name)
                return _failed(job, error)
            if is_done:
                return Ended(job.name, "done", job.out)
            job.tidy()
            job.pause()
            return Ended(job.name, "cancelled", job.out)

    def _make(self, job: Job) -> bool:
        """Make the unfinished file; False if the job was cancelled."""
        model = self._model(job.ticket.request.model)
        timeline = check(job.ticket.request, model)
        past = read_past(job, model)
        spec = model.spec
        with LatentFile(job.latents, shape=(spec.section_latents, *spec.latent_shape)) as made:
            total = num_sections(job.ticket.request, spec)
            job.note_size(num_sections=total, record_bytes=made.record_bytes)
            maker = _maker(job, model, timeline=timeline, past=past, made=made)
            if isinstance(maker, CausalMaker) and 0 < len(made) < total:
                job.note_interruption(len(made))
            return self._shoot(job, model, maker, past=past, made=made)

    def _shoot(self, job: Job, model: WorldModel, maker: Maker, *, past: Past, made: LatentFile) -> bool:
        request, spec = job.ticket.request, model.spec
        tag = _tag(job, model)
        comment = msgspec.json.encode(tag).decode()
        with Mp4Writer(job.partial, size=output_size(request, spec), rate=rate_of(spec), comment=comment) as writer:
            for frame in shown_before(job, model):
                writer.write(frame)
            film = Film(model, state_after(model, request, past), writer, num_frames=tag.new_frames)
            preview = _Preview(job.folder / "preview.jpg", self._clock)
            with closing(produce(maker, made, film)) as making:
                for progress in making:
                    if job.is_cancelled():
                        return False
                    preview.show(progress)
                    self._tell(job, progress)
            if (end := end_of(job, model)) is not None and request.given.keep:
                writer.write(end)
            writer.finish()
        return True

    def _model(self, name: str) -> WorldModel:
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # two large models may not fit
            self._loaded = (name, self._load(name))
        return self._loaded[1]


def check(request: ClipRequest, model: WorldModel) -> Timeline:
    """The parsed timeline of a request that `model` can fulfil; raises RequestError, TimelineError or OrderError."""
    spec, timeline = model.spec, check_values(request)
    check_order(request, model)
    output_size(request, spec)
    if request.prompt and not spec.accepts_prompt:
        raise RequestError(f"expected no prompt, since {spec.name} takes none, got {request.prompt[:40]!r}")
    axes = tuple(axis.name for axis in spec.controls.axes)
    timeline.check(axes=axes, accepts_prompt=spec.accepts_prompt, seconds=num_new_frames(request, spec) / rate_of(spec))
    return timeline


class _Preview:
    """Keeps the newest picture in a file, not too often."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._next = clock()

    def show(self, progress: Progress) -> None:
        if progress.frame is not None and self._clock() >= self._next:
            new = self._path.with_suffix(".new")
            Image.fromarray(progress.frame).save(new, "JPEG")
            new.replace(self._path)
            self._next = self._clock() + PREVIEW_SECONDS


def _maker(job: Job, model: WorldModel, *, timeline: Timeline, past: Past, made: LatentFile) -> Maker:
    request = job.ticket.request
    if request.order == "vanilla" and request.schedule in ("", model.spec.schedule):
        return CausalMaker(model, request, timeline=timeline, past=past)
    assert isinstance(model, PlannedModel), "check_order lets no other pass"
    state, end = state_after(model, request, past), end_of(job, model)
    before = [state.start.latents[0], *(latent for section in past.sections for latent in section.latents)]
    after = [] if end is None else list(model.encode(end[None]))
    return PlannedMaker(Stage(model, state, request, timeline, before, after), made)


def _tag(job: Job, model: WorldModel) -> Tag:
    request = job.ticket.request
    revive = tuple(sorted({*request.revive, *job.attempt.interruptions}))
    return Tag(
        request=msgspec.structs.replace(request, revive=revive),
        command=command_line(request, job.out),
        version=version("rewander"),
        new_frames=num_new_frames(request, model.spec),
        first_new=num_shown_before(job, model),
        sha256=job.ticket.sha256,
    )


def _failed(job: Job, error: BaseException) -> Ended:
    problem = str(error) or type(error).__name__
    job.fail(problem)
    return Ended(job.name, "failed", job.out, problem)
