"""Worlds of large models, in miniature and of random weights: recorded, restored and replayed like any other."""

from collections.abc import Callable

import numpy as np
import pytest

from model.helios.course import StraightPlan
from model.helios.pyramid import PyramidPlan
from model.world_model import WorldModel
from server.journal import Prompted, Record
from server.world import Opening, World, advanced, num_frames, replay, restore, sample
from tests.model.helios import tiny as helios
from tests.model.wan import tiny as wan

MODELS: dict[str, Callable[[], WorldModel]] = {
    "wan": lambda: wan.wan_of(wan.parts()),
    "helios": lambda: helios.helios_of(helios.parts(), StraightPlan(helios.scheduler(), 2)),
    "helios, distilled": lambda: helios.helios_of(
        helios.parts(),
        PyramidPlan(helios.distilled(), is_thorough_at_first=True),
        guidance=1.0,
        frame_shape=(64, 64),
    ),
}


def play(world: World, records: list[Record], *, sections: int) -> np.ndarray:
    """The latents of the next sections, which go into `records`; the keys are held and released in turn."""
    made = []
    for number in range(sections):
        controls = np.full((num_frames(world.model.spec), 4), number % 2, np.float32)
        section = sample(world, controls)
        world.model.decode([world.state], [section])
        records.append(advanced(section, controls, recalls=world.session.recalls))
        world.session.commit(section)
        world.remember()
        made.append(section.latents)
    return np.concatenate(made)


@pytest.mark.parametrize("image", [None, wan.image()], ids=["words", "image"])
@pytest.mark.parametrize("name", MODELS)
def test_a_world_is_restored_and_replayed(name: str, image: np.ndarray | None) -> None:
    model = MODELS[name]()
    world = World(model, Opening(image, "a cat walks", 11), first_frame=0, capacity=32)
    records: list[Record] = [world.opened(session="s", created=1.0)]
    play(world, records, sections=2)
    records.append(Prompted("rain falls"))
    world.set_prompt("rain falls")
    play(world, records, sections=7)  # beyond what the model is given of the past when it resumes
    assert [frames.shape[0] for frames in replay(model, records)] == [num_frames(model.spec)] * 9

    restoring = restore(model, records)
    while True:
        try:
            next(restoring)
        except StopIteration as done:
            again = done.value
            break
    assert np.array_equal(play(again, [], sections=2), play(world, [], sections=2))
