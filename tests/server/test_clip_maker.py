"""The causal maker plays a world as a player would."""

from pathlib import Path

import numpy as np
import pytest

from model.clips.latents import LatentFile
from model.clips.making import Maker
from model.clips.request import ClipRequest
from model.clips.timeline import Timeline
from model.world_model import Section
from server.clip_maker import CAPACITY, CausalMaker, state_after
from server.clip_past import Past
from server.world import Opening, World, sample

from .tiny_model import TinyModel

NOTHING = Past(None)
PATH = "[0s-200ms: turn=1 climb=0.5] [300ms: turn=-1 a house]"


def sections_of(maker: Maker, *, numbers: range) -> list[Section]:
    sections = []
    for number in numbers:
        making = maker.make(number)
        try:
            while True:
                next(making)
        except StopIteration as done:
            sections += done.value
    return sections


def maker(request: ClipRequest, past: Past = NOTHING, *, section_latents: int = 1) -> CausalMaker:
    model = TinyModel(section_latents=section_latents, frames_per_latent=section_latents)
    return CausalMaker(model, request, timeline=Timeline.parse(request.timeline), past=past)


def latents(sections: list[Section]) -> np.ndarray:
    return np.concatenate([section.latents for section in sections])


@pytest.mark.parametrize("recall", [True, False])
def test_a_clip_is_what_a_player_with_these_controls_would_see(recall: bool) -> None:
    request = ClipRequest(seconds=0.6, seed=7, timeline=PATH, prompt="a field", recall=recall)
    world = World(TinyModel(), Opening(None, "a field", 7), first_frame=0, capacity=CAPACITY)
    world.session.recalls = recall
    played = []
    for frame in range(30):
        if frame == 15:
            world.set_prompt("a house")
        turn, climb = (1.0, 0.5) if frame < 10 else (-1.0, 0.0) if frame >= 15 else (0.0, 0.0)
        played.append(sample(world, np.array([[turn, climb]], np.float32)))
        world.session.commit(played[-1])
        world.remember()
    made = maker(request)
    assert made.order == [(i,) for i in range(30)]
    np.testing.assert_array_equal(latents(sections_of(made, numbers=range(30))), latents(played))


@pytest.mark.parametrize("section_latents", [1, 3])
@pytest.mark.parametrize("left_at", [0, 1, 2])
def test_a_restored_maker_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, section_latents: int, left_at: int
) -> None:
    request = ClipRequest(seconds=0.6, timeline=PATH)
    past = Past(np.full((16, 32, 3), 90, np.uint8), (_given(section_latents, 0.3), _given(section_latents, 0.6)))
    whole = maker(request, past, section_latents=section_latents)
    shape = (section_latents, *TinyModel().spec.latent_shape)
    with LatentFile(tmp_path / "none", shape=shape) as nothing:
        whole.restore(nothing)
    sections = sections_of(whole, numbers=range(4))
    with LatentFile(tmp_path / "latents", shape=shape) as made:
        for section in sections[:left_at]:
            made.append(section)
        again = maker(request, past, section_latents=section_latents)
        again.restore(made)
    rest = sections_of(again, numbers=range(left_at, 4))
    np.testing.assert_array_equal(latents(rest), latents(sections[left_at:]))


def test_what_was_given_is_seen() -> None:
    """The tiny model's view is made of what is shown to it."""
    past = Past(np.full((16, 32, 3), 90, np.uint8), (_given(1, 0.3), _given(1, 0.6)))
    still = maker(ClipRequest(seconds=0.1), past)
    assert float(latents(sections_of(still, numbers=range(1))).mean()) == pytest.approx(0.6, abs=1e-3)


def test_a_state_after_the_past_is_where_the_past_ends() -> None:
    model, request = TinyModel(), ClipRequest()
    assert not state_after(model, request, Past(None)).place.any()
    section = Section(_given(1, 0.5).latents, np.array([[0.5, 0.25, 0]], np.float32))
    state = state_after(model, request, Past(np.zeros((16, 32, 3), np.uint8), (section,)))
    assert (state.place.tolist(), state.num_sections) == ([1.0, 2.0], 1)


def _given(size: int, light: float) -> Section:
    return Section(np.full((size, *TinyModel().spec.latent_shape), light, np.float16), np.zeros((size, 3), np.float32))
