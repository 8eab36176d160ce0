"""Worlds brought back from their journals: every frame is the one it was, and the next the one it would have been."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from server.journal import Illustrated, JournalError, Prompted, Record
from server.session import next_histories
from server.world import SLICE, Opening, World, advanced, num_frames, replay, restore, sample, show

from .tiny_model import TinyJob, TinyModel

PATH = [(1.0, 0.0)] * 12 + [(0.0, 1.0)] * 3 + [(-1.0, 0.0)] * 12


class Recorder:
    """A world that is played as an engine would, with its records."""

    def __init__(self, model: TinyModel, opening: Opening, *, first_frame: int = 0) -> None:
        self.world = World(model, opening, first_frame=first_frame, capacity=32)
        self.records: list[Record] = [self.world.opened(session="s", created=1.0)]

    def play(self, path: Iterable[tuple[float, float]]) -> np.ndarray:
        frames = []
        for control in path:
            controls = np.tile(np.array(control, np.float32), (num_frames(self.world.model.spec), 1))
            section = sample(self.world, controls)
            frames += self.world.model.decode([self.world.state], [section])
            self.records.append(advanced(section, controls, recalls=self.world.session.recalls))
            self.world.session.commit(section)
            self.world.remember()
        return np.concatenate(frames) if frames else np.zeros(0)


def recorder(*, image: np.ndarray | None = None, **sizes: int) -> Recorder:
    return Recorder(TinyModel(**sizes), Opening(image, "a house", 11))


def restored(records: list[Record], **sizes: int) -> World:
    restoring = restore(TinyModel(**sizes), records)
    while True:
        try:
            next(restoring)
        except StopIteration as done:
            world: World = done.value
            return world


@pytest.mark.parametrize("sizes", [{}, {"section_latents": 3, "frames_per_latent": 2}])
@pytest.mark.parametrize("num_before", [0, 1, 20])
def test_a_restored_world_goes_on_as_if_nothing_had_happened(sizes: dict[str, int], num_before: int) -> None:
    original = recorder(**sizes)
    original.play(PATH[:num_before])
    again = Recorder.__new__(Recorder)
    again.world, again.records = restored(original.records, **sizes), []
    np.testing.assert_array_equal(again.play(PATH[num_before:]), original.play(PATH[num_before:]))
    assert again.world.next_frame == original.world.next_frame == len(PATH) * num_frames(original.world.model.spec)


@pytest.mark.parametrize("sizes", [{}, {"section_latents": 3, "frames_per_latent": 2}])
def test_a_replay_gives_the_same_frames(sizes: dict[str, int]) -> None:
    original = recorder(**sizes)
    shown = [original.play(PATH)]
    original.world.session.recalls = False
    shown.append(original.play(PATH))
    original.world.session.recalls = True
    original.world.set_prompt("a garden with a pond")
    original.records.append(Prompted("a garden with a pond"))
    shown.append(original.play(PATH))
    for again in (replay, show):
        np.testing.assert_array_equal(
            np.concatenate(list(again(TinyModel(**sizes), original.records))), np.concatenate(shown)
        )


def test_a_replay_goes_through_interruptions() -> None:
    """What was played before and after a restoration is one world."""
    original = recorder()
    before = original.play(PATH[:17])
    original.world = restored(original.records)
    after = original.play(PATH[17:])
    np.testing.assert_array_equal(np.concatenate(list(replay(TinyModel(), original.records))), [*before, *after])


def test_a_world_from_an_image_and_its_prompt() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    original = recorder(image=image)
    original.play(PATH[:5])
    original.world.set_prompt("a lake")
    original.records.append(Prompted("a lake"))
    world = restored(original.records)
    np.testing.assert_array_equal(world.state.start.latents, original.world.state.start.latents)
    assert world.state.tint == original.world.state.tint != TinyModel().open(image=image, prompt="", seed=0).tint


def test_pictures_of_memories_are_restored() -> None:
    original = recorder()
    original.play(PATH[:12])
    original.records += [Illustrated(index, b"%d" % index) for index in range(1, 13)]
    world = restored(original.records)
    next_histories([world.session], [np.array([[3 * 0.5, 0, 0]], np.float32)])
    assert world.session.recalled.thumbnails == tuple(b"%d" % index for index in world.session.recalled.ids)
    assert world.session.recalled.ids


def test_a_revived_model_loses_nothing_but_the_section_in_flight() -> None:
    broken, whole = recorder(), recorder()
    for made in (broken, whole):
        made.play(PATH[:9])
    broken.world.state.place += 100
    broken.world.revive()
    np.testing.assert_array_equal(broken.play(PATH[9:]), whole.play(PATH[9:]))


def test_a_long_world_is_restored_in_slices() -> None:
    original = recorder()
    original.play([(0.5, 0.5)] * (3 * SLICE))
    assert len(list(restore(TinyModel(), original.records))) == 3


def test_frames_are_counted_on_from_the_first() -> None:
    made = Recorder(TinyModel(section_latents=2), Opening(None, "", 1), first_frame=100)
    made.play(PATH[:3])
    assert made.world.next_frame == 106
    assert restored(made.records, section_latents=2).next_frame == 106


def test_journals_that_cannot_be_played() -> None:
    original = recorder()
    original.play(PATH[:3])
    other = TinyModel()
    other.spec = replace(other.spec, name="other")
    with pytest.raises(JournalError, match="expected a world of the model 'other', got one of 'tiny'"):
        list(restore(other, original.records))
    with pytest.raises(JournalError, match="expected a journal to begin with what it opened"):
        list(restore(TinyModel(), original.records[1:]))
    with pytest.raises(JournalError, match="expected a journal to begin with what it opened"):
        list(restore(TinyModel(), []))


def test_a_replay_that_differs_says_so() -> None:
    original = recorder()
    original.play(PATH[:3])
    control = np.array([[-1, 0]], np.float32).tobytes()
    original.records[-1] = msgspec.structs.replace(original.records[-1], controls=control)
    with pytest.raises(JournalError, match="expected section 3 as recorded to 0.0, got it"):
        list(replay(TinyModel(), original.records))


class RoundingModel(TinyModel):
    """Gives slightly other numbers in a batch than alone, as large models do."""

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        super().advance(jobs)
        for job in jobs:
            job.noisy = job.noisy * (1 + 1e-3)


def test_a_replay_forgives_what_it_is_told_to() -> None:
    original = recorder()
    frames = original.play(PATH)
    again = np.concatenate(list(replay(RoundingModel(), original.records, tolerance=0.01)))
    assert 0 < np.abs(again.astype(int) - frames).max() <= 2
    with pytest.raises(JournalError, match="expected section 1 as recorded to 0.0001"):
        list(replay(RoundingModel(), original.records, tolerance=1e-4))
