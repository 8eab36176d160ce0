"""Endless play on a tiny network: what a session keeps, what changes it, and that it comes back as it was."""

from dataclasses import replace

import numpy as np
import pytest

from server.world import Opening, World, sample
from tests.model.hunyuan import tiny

SECTION, FRAMES = 3, 12


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


@pytest.fixture(scope="module")
def model(parts):
    return tiny.framepack_of(parts)


def world_of(model, *, prompt="a cat", seed=0):
    return World(model, Opening(tiny.image(), prompt, seed), first_frame=0, capacity=64)


def controls(model, **moved):
    names = [axis.name for axis in model.spec.controls.axes]
    vectors = np.zeros((FRAMES, len(names)), np.float32)
    for name, value in moved.items():
        vectors[:, names.index(name)] = value
    return vectors


def play(world, vectors):
    """Make, show and remember a section; its latents and frames."""
    section = sample(world, vectors)
    [frames] = world.model.decode([world.state], [section])
    world.session.commit(section)
    world.remember()
    return section.latents, frames


def test_the_spec_says_what_the_server_needs(model):
    spec = model.spec
    assert (spec.latent_shape, spec.section_latents, spec.frames_per_latent) == ((16, 6, 10), 3, 4)
    assert (spec.num_recent, spec.num_recalled, spec.num_steps) == (19, 0, 2)
    assert spec.context_tokens == 15 + 4 * 2 + 6 + 15  # 3 x 5 patches, 1 x 2 and 2 x 3 coarse ones
    assert [axis.name for axis in spec.controls.axes] == ["move", "strafe", "turn", "look"]


def test_frames_keep_coming_and_nothing_grows(model):
    world, sizes = world_of(model), []
    for _ in range(12):
        latents, frames = play(world, controls(model))
        assert latents.shape == (SECTION, 16, 6, 10) and np.isfinite(latents).all()
        assert frames.shape == (FRAMES, 48, 80, 3) and frames.dtype == np.uint8
        sizes.append((world.state.reel.latents.shape, world.state.reel.last.shape))
    assert len(set(sizes)) == 1
    assert world.state.sections == 12


def test_a_dropped_job_leaves_the_state_as_it_was(model):
    world = world_of(model)
    play(world, controls(model))
    before = replace(world.state)
    [job] = model.begin([world.state], [controls(model, move=1.0)], [world.session._history()])
    model.advance([job])
    assert world.state == before


def test_steering_changes_the_picture_and_rest_does_not(model):
    still, again, moved = (world_of(model) for _ in range(3))
    expected = play(still, controls(model))[0]
    assert np.array_equal(play(again, controls(model, turn=0.1))[0], expected)
    assert not np.array_equal(play(moved, controls(model, turn=1.0))[0], expected)


def test_the_seed_decides(model):
    one, other, again = (play(world_of(model, seed=seed), controls(model))[0] for seed in (1, 2, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_without_an_image_the_seed_chooses_a_start(parts):
    starts = [tiny.image(seed=i) for i in range(2)]
    model = tiny.framepack_of(parts, starts=starts)
    for seed in range(3):
        start = model.open(image=None, prompt="", seed=seed).start.latents
        assert np.array_equal(start, model.open(image=starts[seed % 2], prompt="", seed=9).start.latents)
    black = tiny.framepack_of(parts).open(image=None, prompt="", seed=0).start.latents
    assert np.array_equal(black, model.open(image=np.zeros((48, 80, 3), np.uint8), prompt="", seed=0).start.latents)


def test_an_image_of_any_size_fits(model):
    state = model.open(image=tiny.image((100, 31)), prompt="", seed=0)
    assert state.start.latents.shape == (1, 16, 6, 10)


def test_a_prompt_takes_effect_at_the_next_section_and_fades_in(parts):
    model = tiny.framepack_of(parts, prompt_sections=2)
    still = controls(model)
    plain, told, at_once = world_of(model), world_of(model), world_of(model, prompt="rain falls slowly")
    begun, _ = play(plain, still), play(told, still)
    play(at_once, still)
    [job] = model.begin([told.state], [still], [told.session._history()])
    told.set_prompt("rain falls slowly")  # while a section is being made
    while job.steps_left:
        model.advance([job])
    [section] = model.finish([job])
    expected, _ = play(plain, still)
    assert np.array_equal(section.latents, expected)
    assert not np.array_equal(expected, begun[0])
    told.session.commit(section)
    assert told.state.wording.mix == (("a cat", 0.5), ("rain falls slowly", 0.5))
    latents, _ = play(told, still)
    assert not np.array_equal(latents, play(plain, still)[0])
    assert told.state.wording.mix == (("rain falls slowly", 1.0),)


@pytest.mark.parametrize("sections", [0, 1, 2, 8])
def test_a_world_revived_goes_on_as_if_nothing_had_happened(model, sections):
    world, other = world_of(model), world_of(model)
    for _ in range(sections):
        play(world, controls(model, turn=1.0))
        play(other, controls(model, turn=1.0))
    other.revive()
    for ours, theirs in zip(play(other, controls(model)), play(world, controls(model)), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_world_revived_says_its_newest_prompt_alone(model):
    world = world_of(model)
    play(world, controls(model))
    world.set_prompt("rain falls slowly")
    world.revive()
    assert world.state.wording.mix == (("rain falls slowly", 1.0),)


def test_memories_are_looked_at_and_cost_no_tokens(parts):
    """With recall as an option; switched off the slots show the past as without it."""
    plain, recalling = tiny.framepack_of(parts), tiny.framepack_of(parts, num_recalled=2)
    assert plain.spec.context_tokens == recalling.spec.context_tokens
    worlds = [world_of(plain), world_of(recalling), world_of(recalling)]
    worlds[2].session.recalls = False
    for _ in range(9):  # until there is a past that no slot shows
        latents = [play(world, controls(world.model, turn=1.0))[0] for world in worlds]
    assert worlds[1].session.recalled.ids
    assert np.array_equal(latents[0], latents[2])
    assert not np.array_equal(latents[0], latents[1])


def test_a_draft_comes_nearer_to_the_end_of_the_section(parts):
    model = tiny.framepack_of(parts, steps=6)
    world = world_of(model)
    [job] = model.begin([world.state], [controls(model)], [world.session._history()])
    drafts = [model.draft(job)]
    while job.steps_left:
        model.advance([job])
        drafts.append(model.draft(job))
    final = drafts[-1].astype(float)
    errors = [np.abs(draft - final).mean() for draft in drafts]
    assert drafts[0].shape == (48, 80, 3)
    assert errors[0] > errors[1] > errors[4] > errors[6] == 0


def test_keys_are_of_length_1_and_tell_latents_apart(model):
    latents = np.stack([model.encode(tiny.image(seed=i)[None])[0] for i in range(3)])
    keys = model.features(latents)
    assert keys.shape == (3, model.spec.feature_size) and keys.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, rtol=1e-5)
    assert keys[0] @ keys[1] < 0.999


def test_a_video_becomes_a_past_to_go_on_from(model):
    video = np.stack([tiny.image(seed=0)] * (1 + FRAMES))
    latents = model.encode_video(video)
    assert latents.shape == (1 + SECTION, 16, 6, 10) and latents.dtype == np.float16
    state = model.open(image=video[0], prompt="", seed=0)
    model.resume(state, latents, np.zeros((4, 3), np.float32), num_sections=1)
    assert state.sections == 1 and state.reel.last.shape == (3, 48, 80)
