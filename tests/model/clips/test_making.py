"""Making: sampling in the plan's order, showing in time's, and going on where it was left."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from model.clips.latents import LatentFile
from model.clips.making import Film, Making, Progress, Sections, produce
from model.clips.mp4 import Mp4Writer
from model.world_model import Section

from .planned_model import RATIO, SECTION, SHAPE, PlannedTiny
from .videos import close, gray, read_video

STEPS = 2


class Numbered:
    """A maker whose section i is gray, 20 i light."""

    def __init__(self, order: list[Sections]) -> None:
        self.order = order
        self.restored: list[int] = []
        self.asked: list[int] = []

    def restore(self, made: LatentFile) -> None:
        self.restored = [round(float(section.latents[0, 0, 0, 0]) * 255 / 20) for section in made]

    def make(self, number: int) -> Making:
        self.asked.append(number)
        for _ in range(STEPS):
            yield
        return [
            Section(np.full((SECTION, *SHAPE), 20 * i / 255, np.float16), np.zeros((SECTION, 3), np.float32))
            for i in self.order[number]
        ]


class Room:
    """Where clips are made, so that they can be left and gone on with."""

    def __init__(self, folder: Path, *, num_frames: int = 1000) -> None:
        self.folder, self.num_frames = folder, num_frames
        self.latents = folder / "latents"

    def make(self, order: list[Sections], *, wanted: Callable[[Progress], bool]) -> tuple[Numbered, list[Progress]]:
        maker, told, model = Numbered(order), [], PlannedTiny()
        with (
            LatentFile(self.latents, shape=(SECTION, *SHAPE)) as made,
            Mp4Writer(self.folder / "a.mp4", size=(32, 16), rate=Fraction(12), comment="") as writer,
        ):
            state = model.open(image=None, prompt="", seed=0)
            for progress in produce(maker, made, Film(model, state, writer, num_frames=self.num_frames)):
                told.append(progress)
                if not wanted(progress):
                    return maker, told
            writer.finish()
        return maker, told

    def lights(self) -> list[int]:
        return [round(float(frame.mean()) / 20) for frame in read_video(self.folder / "a.mp4")]


def in_time(num: int) -> list[int]:
    return [i for i in range(num) for _ in range(SECTION * RATIO)]


ORDERS: list[list[Sections]] = [
    [(0,), (1,), (2,), (3,)],
    [(3,), (2,), (1,), (0,)],
    [(0, 3), (1,), (2,)],
    [(1,), (3,), (0,), (2,)],
]


@pytest.mark.parametrize("order", ORDERS)
def test_sections_are_shown_in_time_whatever_the_order(tmp_path: Path, order: list[Sections]) -> None:
    room = Room(tmp_path)
    maker, told = room.make(order, wanted=lambda _: True)
    assert maker.asked == list(range(len(order)))
    assert room.lights() == in_time(4)
    shown = [progress.frame for progress in told if progress.frame is not None]
    assert [close(frame, gray(20 * i)) for i, frame in enumerate(shown)] == [True] * 4


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stop", [1, 2, 4, 7])
def test_a_clip_goes_on_where_it_was_left(tmp_path: Path, order: list[Sections], stop: int) -> None:
    room, left = Room(tmp_path), iter(range(stop))
    first, _ = room.make(order, wanted=lambda _: next(left, None) is not None)
    second, _ = room.make(order, wanted=lambda _: True)
    whole = second.asked[0]
    assert whole in (len(first.asked) - 1, len(first.asked))
    assert second.restored == [section for sections in order[:whole] for section in sections]
    assert second.asked == list(range(whole, len(order)))
    assert room.lights() == in_time(4)


def test_a_sampling_that_is_half_on_disk_is_made_anew(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.make(ORDERS[2], wanted=lambda progress: progress.sections < 2)
    with LatentFile(room.latents, shape=(SECTION, *SHAPE)) as made:
        made.cut(1)
    maker, _ = room.make(ORDERS[2], wanted=lambda _: True)
    assert maker.restored == []
    assert room.lights() == in_time(4)


def test_the_last_section_is_cut_to_length(tmp_path: Path) -> None:
    room = Room(tmp_path, num_frames=SECTION * RATIO + 2)
    room.make([(0,), (1,)], wanted=lambda _: True)
    assert room.lights() == in_time(2)[: SECTION * RATIO + 2]


def test_progress_counts_steps_and_sections(tmp_path: Path) -> None:
    _, told = Room(tmp_path).make([(1,), (0,)], wanted=lambda _: True)
    assert [(p.sections, p.step, p.frame is not None) for p in told] == [
        *[(0, 1, False), (0, 2, False)],
        *[(1, 1, False), (1, 2, False)],
        *[(2, 0, True), (2, 0, True)],
    ]
    assert {(p.num_sections, p.num_steps) for p in told} == {(2, STEPS)}
