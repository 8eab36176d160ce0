"""Clips from end to end: real files, killed processes, bad neighbours."""

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from model.clips.job import Job
from model.clips.making import Progress
from model.clips.mp4 import read_comment
from model.clips.planned import PlannedModel
from model.clips.queue import cancel_job, claim, list_jobs, retry_job, submit
from model.clips.request import ClipRequest, Given, parse_tag
from model.world_model import Section, WorldModel
from server.clips import Ended, Studio
from server.serve import UnknownModelError
from tests.model.clips.planned_model import PlannedTiny
from tests.model.clips.videos import close, gray, levels, read_video, write_video
from tests.model.rooms.small import rooms

from .tiny_model import TinyJob, TinyModel

THERE_AND_BACK = "[0s-500ms: turn=1] [500ms-1s: turn=-1]"
ROOT = Path(__file__).parents[2]


def nothing(_job: Job, _progress: Progress) -> None: ...


class Place:
    """A queue with a folder for its files."""

    def __init__(self, path: Path) -> None:
        self.path, self.queue = path, path / "queue"

    def submit(self, name: str = "a.mp4", request: ClipRequest | None = None) -> str:
        return submit(self.queue, request or ClipRequest(model="tiny", seconds=1), self.path / name, created=1.0)

    def run(self, model: WorldModel | None = None, *, tell: Callable[[Job, Progress], None] = nothing) -> list[Ended]:
        return list(Studio(lambda _: model or TinyModel(), tell=tell).run_queue(self.queue))

    def make(self, request: ClipRequest, *, name: str = "a.mp4", model: WorldModel | None = None) -> np.ndarray:
        """The frames of a clip."""
        self.submit(name, request)
        [ended] = self.run(model)
        assert ended == Ended(ended.name, "done", self.path / name)
        return read_video(self.path / name)

    def states(self) -> list[str]:
        return [job.state for job in list_jobs(self.queue)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def tiny(**changes: object) -> ClipRequest:
    return msgspec.structs.replace(ClipRequest(model="tiny", seconds=1, size=(128, 64)), **changes)


def mean_change(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_a_clip_has_the_frames_that_were_asked_for(place: Place) -> None:
    frames = place.make(tiny(timeline=THERE_AND_BACK, seed=5))
    assert frames.shape == (50, 64, 128, 3)
    assert mean_change(frames[0], frames[20]) > 10
    tag = parse_tag(read_comment(place.path / "a.mp4"))
    assert (tag.request, tag.new_frames, tag.first_new) == (tiny(timeline=THERE_AND_BACK, seed=5), 50, 0)
    assert tag.command.startswith(f"rewander generate {place.path / 'a.mp4'} --model tiny")
    assert [path.name for path in place.path.iterdir() if path.is_file()] == ["a.mp4"]


def test_recall_brings_back_what_was_there(place: Place) -> None:
    """The tiny model invents what it does not remember; its four recent latents do not reach so far."""
    there, back = 5, 43
    remembered = place.make(tiny(timeline=THERE_AND_BACK), name="a.mp4")
    forgotten = place.make(tiny(timeline=THERE_AND_BACK, recall=False), name="b.mp4")
    assert mean_change(remembered[there], remembered[back]) < mean_change(forgotten[there], forgotten[back]) / 2


@pytest.mark.parametrize("changes", [{"seed": 9}, {"timeline": "[0s: turn=-1]"}, {"prompt": "a room"}])
def test_what_is_asked_for_matters(place: Place, changes: dict[str, object]) -> None:
    usual = tiny(timeline="[0s: turn=1]")
    changed = msgspec.structs.replace(usual, **changes)
    assert mean_change(place.make(usual, name="a.mp4"), place.make(changed, name="b.mp4")) > 1


def test_a_tag_makes_the_same_file_again(place: Place) -> None:
    place.make(tiny(timeline=THERE_AND_BACK + "[200ms: a house]"))
    tag = parse_tag(read_comment(place.path / "a.mp4"))
    place.make(tag.request, name="b.mp4")
    again = parse_tag(read_comment(place.path / "b.mp4"))
    assert again.request == tag.request
    np.testing.assert_array_equal(read_video(place.path / "a.mp4"), read_video(place.path / "b.mp4"))


def test_sections_of_several_frames_are_cut_to_length(place: Place) -> None:
    model = TinyModel(section_latents=3, frames_per_latent=2)
    assert len(place.make(tiny(seconds=0.4), model=model)) == 20


KILLED = """
import sys
from pathlib import Path
from server.clips import Studio
from tests.server.tiny_model import TinyModel

def tell(job, progress):
    if progress.sections == int(sys.argv[2]) and progress.step == 1:
        print("there", flush=True)
        sys.stdin.read()

for ended in Studio(lambda _: TinyModel(), tell=tell).run_queue(Path(sys.argv[1])):
    print(ended.state, flush=True)
"""


def run_and_kill(queue: Path, *, at: int) -> None:
    """Run the queue in a process and kill it in the sampling after `at` sections."""
    command = [sys.executable, "-c", KILLED, str(queue), str(at)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_killed_process_loses_nothing(place: Place) -> None:
    request = tiny(seconds=3, timeline="[0s-1s: turn=1] [1s-2s: turn=-1 a house] [2s: climb=1]")
    whole = place.make(request, name="whole.mp4")
    place.submit("killed.mp4", request)
    for at in (30, 31, 110):
        run_and_kill(place.queue, at=at)
    assert place.states() == ["done", "waiting"]
    [listing] = [job for job in list_jobs(place.queue) if job.state == "waiting"]
    assert (listing.sections, listing.num_sections) == (110, 150)
    first: list[Progress] = []
    [ended] = place.run(tell=lambda _, progress: first.append(progress))
    assert ended.state == "done"
    assert first[0].sections == 110
    np.testing.assert_array_equal(read_video(place.path / "killed.mp4"), whole)
    tag = parse_tag(read_comment(place.path / "killed.mp4"))
    assert tag.request.revive == (30, 31, 110)
    assert sorted(os.listdir(place.path)) == ["killed.mp4", "queue", "whole.mp4"]


class Killed(BaseException):
    """What ends a process without a word to anybody."""


def test_a_killed_clip_of_rooms_can_be_repeated(place: Place) -> None:
    """Going on anew is not bit-equal in `rooms`, but it is part of the clip's tag, and so it can be done again."""
    request = ClipRequest(seconds=0.6, size=(128, 128), timeline="[0s: move=1 turn=0.2]", seed=1)
    place.submit("a.mp4", request)

    def tell(_job: Job, progress: Progress) -> None:
        if progress.sections == 4:
            raise Killed

    with pytest.raises(Killed):
        place.run(rooms(), tell=tell)
    [ended] = place.run(rooms())
    assert ended.state == "done"
    tag = parse_tag(read_comment(place.path / "a.mp4"))
    assert tag.request.revive == (4,)
    again = place.make(tag.request, name="b.mp4", model=rooms())
    np.testing.assert_array_equal(again, read_video(place.path / "a.mp4"))
    assert len(again) == 9
    assert mean_change(again[0], again[-1]) > 0.1


def test_a_process_killed_after_delivery_does_not_make_the_clip_twice(place: Place) -> None:
    with claim(place.queue, place.submit()) as job:
        job.begin()
        job.partial.write_bytes(b"film")
        os.link(job.partial, job.out)

    def load(_name: str) -> WorldModel:
        raise AssertionError("nothing is left to be made")

    [ended] = Studio(load, tell=nothing).run_queue(place.queue)
    assert ended.state == "done"
    assert sorted(os.listdir(place.path)) == ["a.mp4", "queue"]


def test_an_interrupted_job_waits_to_be_gone_on_with(place: Place) -> None:
    place.submit()

    def tell(_job: Job, progress: Progress) -> None:
        if progress.sections == 20:
            raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            place.run(tell=tell)
        assert place.states() == ["waiting"]
        assert os.listdir(place.path) == ["queue"]
    [ended] = place.run()
    assert ended.state == "done"


def test_cancel_acts_at_the_next_step(place: Place) -> None:
    name, heard = place.submit(), []
    other = place.submit("b.mp4", tiny(seconds=0.1))

    def tell(job: Job, progress: Progress) -> None:
        if job.name == name:
            heard.append((progress.sections, progress.step))
            if heard.count((7, 1)) == 1 and heard[-1] == (7, 1):
                cancel_job(place.queue, name)

    assert [(ended.name, ended.state) for ended in place.run(tell=tell)] == [(name, "cancelled"), (other, "done")]
    assert heard[-1] == (7, 1)
    assert sorted(os.listdir(place.path)) == ["b.mp4", "queue"]
    retry_job(place.queue, name)
    [ended] = place.run(tell=tell)
    assert ended.state == "done"
    assert (8, 0) in heard


class Moody(TinyModel):
    """Breaks when it comes to section 3."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def finish(self, jobs: Sequence[TinyJob]) -> list[Section]:
        if jobs[0].state.num_sections == 3:
            raise self.error("out of memory")
        return super().finish(jobs)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, OSError, ValueError, ZeroDivisionError, MemoryError])
def test_a_bad_job_ends_no_other(place: Place, error: type[Exception]) -> None:
    place.submit("a.mp4", tiny(model="moody", seconds=0.1))
    place.submit("b.mp4", tiny(model="nowhere"))
    place.submit("c.mp4", tiny(seconds=0.1))
    models = {"moody": lambda: Moody(error), "tiny": TinyModel}

    def load(name: str) -> WorldModel:
        if name not in models:
            raise UnknownModelError(f"expected another model, got {name!r}")
        return models[name]()

    moody, nowhere, fine = Studio(load, tell=nothing).run_queue(place.queue)
    assert (moody.state, nowhere.state, fine.state) == ("failed", "failed", "done")
    assert "out of memory" in moody.problem
    assert "'nowhere'" in nowhere.problem
    assert sorted(os.listdir(place.path)) == ["c.mp4", "queue"]
    assert [job.sections for job in list_jobs(place.queue)] == [3, 0, 5]


def test_a_broken_section_fails_the_job(place: Place) -> None:
    class Dizzy(TinyModel):
        def finish(self, jobs: Sequence[TinyJob]) -> list[Section]:
            [section] = super().finish(jobs)
            return [replace(section, latents=section.latents * np.float16(np.nan))]

    place.submit()
    [ended] = place.run(Dizzy())
    assert (ended.state, "finite" in ended.problem) == ("failed", True)


def test_a_file_that_appears_meanwhile_is_left_alone(place: Place) -> None:
    place.submit()
    (place.path / "a.mp4").write_bytes(b"holiday")
    [ended] = place.run()
    assert (ended.state, "to be free" in ended.problem) == ("failed", True)
    assert (place.path / "a.mp4").read_bytes() == b"holiday"
    assert sorted(os.listdir(place.path)) == ["a.mp4", "queue"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"timeline": "[0s: jump=1]"}, "axes turn, climb, got 'jump' at position 5"),
        ({"timeline": "[1s: turn=1]"}, "clip's end at 1s"),
        ({"size": (640, 480)}, "aspect of the model's 32x16"),
        ({"order": "inverted"}, "order vanilla, which tiny can follow, got inverted"),
        ({"schedule": "f1k1_g9"}, "schedule f1k1f2s1f4k1_g1, which tiny has, got f1k1_g9"),
        ({"given": Given(end=str(ROOT / "README.md"))}, "tiny is causal"),
        ({"given": Given(image=str(ROOT / "README.md"))}, "expected a JPEG, PNG or WebP"),
        ({"given": Given(video=str(ROOT / "README.md"))}, "expected a video"),
    ],
)
def test_what_cannot_be_made_says_why(place: Place, changes: dict[str, object], expected: str) -> None:
    place.submit("a.mp4", tiny(**changes))
    [ended] = place.run()
    assert ended.state == "failed"
    assert expected in ended.problem
    assert os.listdir(place.path) == ["queue"]


def test_an_order_that_can_arrives_at_the_end_frame(place: Place) -> None:
    Image.fromarray(gray(30, shape=(16, 32))).save(place.path / "start.png")
    Image.fromarray(gray(200, shape=(40, 80))).save(place.path / "end.png")
    given = Given(image=str(place.path / "start.png"), end=str(place.path / "end.png"))
    for order in ("inverted", "endpoint", "planned"):
        model = PlannedTiny()
        assert isinstance(model, PlannedModel)
        frames = place.make(tiny(order=order, seconds=2, given=given), name=f"{order}.mp4", model=model)
        assert len(frames) == 1 + 24 + 1
        assert close(frames[0], gray(30)) and close(frames[-1], gray(200))
        latents = model.aims[0].latents([0, 13])
        assert latents.mean(axis=(1, 2, 3)) * 255 == pytest.approx([30, 200], abs=1)


def test_an_image_begins_a_clip(place: Place) -> None:
    cells = np.random.default_rng(0).integers(0, 255, (4, 8, 3), np.uint8)
    image = cells.repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(image).save(place.path / "i.png")
    given = Given(image=str(place.path / "i.png"))
    frames = place.make(tiny(given=given))
    assert len(frames) == 51
    still = place.make(tiny(given=msgspec.structs.replace(given, keep=False)), name="b.mp4")
    assert mean_change(frames[1], still[0]) < 3
    assert parse_tag(read_comment(place.path / "a.mp4")).first_new == 1
    assert mean_change(frames[0], frames[1]) < 12, "the camera has not moved"


def test_a_video_is_extended(place: Place) -> None:
    """The tiny model copies what it sees: without a control the view stays the video's last frame."""
    video = write_video(place.path / "v.mkv", [gray(n, shape=(48, 64)) for n in levels(30)], rate=Fraction(25))
    given = Given(video=str(video))
    frames = place.make(tiny(given=given))
    assert len(frames) == 60 + 50
    assert all(close(frame, gray(levels(30)[i // 2]), by=6) for i, frame in enumerate(frames[:60]))
    assert all(close(frame, gray(levels(30)[-1]), by=6) for frame in frames[60:])
    assert parse_tag(read_comment(place.path / "a.mp4")).first_new == 60
    place.make(tiny(given=msgspec.structs.replace(given, keep=False)), name="b.mp4")
    assert len(read_video(place.path / "b.mp4")) == 50


def test_a_clip_is_extended_to_where_its_controls_led(place: Place) -> None:
    """A clip of ours says how the camera moved: turned back, the extension finds again what the clip has shown."""
    first = place.make(tiny(timeline="[0s-300ms: turn=1]"))
    back = tiny(timeline="[0s-300ms: turn=-1]", given=Given(video=str(place.path / "a.mp4")))
    frames = place.make(back, name="b.mp4")
    assert len(frames) == 100
    assert mean_change(frames[50 + 13], first[0]) < 14 < mean_change(first[14], first[0])


def test_going_on_after_a_video_is_going_on(place: Place) -> None:
    """A killed extension takes the video in again."""
    place.make(tiny(timeline="[0s: turn=1]"))
    request = tiny(timeline="[0s: turn=-0.5]", given=Given(video=str(place.path / "a.mp4"), history_seconds=0.5))
    whole = place.make(request, name="b.mp4")
    place.submit("c.mp4", request)

    def tell(_job: Job, progress: Progress) -> None:
        if progress.sections == 17:
            raise Killed

    with pytest.raises(Killed):
        place.run(tell=tell)
    [ended] = place.run()
    assert ended.state == "done"
    np.testing.assert_array_equal(read_video(place.path / "c.mp4"), whole)


def test_a_preview_is_there_while_a_clip_is_made(place: Place) -> None:
    now = iter(range(10_000))
    place.submit()
    list(Studio(lambda _: TinyModel(), tell=nothing, clock=lambda: next(now)).run_queue(place.queue))
    with Image.open(place.queue / "0001" / "preview.jpg") as picture:
        assert picture.size == (32, 16)


def test_memory_is_flat_in_the_length(place: Place) -> None:
    place.submit("a.mp4", tiny(seconds=10, size=(32, 16)))
    held: dict[int, int] = {}

    def tell(_job: Job, progress: Progress) -> None:
        if progress.sections in (100, 499) and progress.step == 0:
            held[progress.sections] = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    [ended] = place.run(tell=tell)
    tracemalloc.stop()
    assert ended.state == "done"
    assert held[499] - held[100] < 200_000  # 400 frames are 0.6 MB, their latents and memories 0.1 MB
