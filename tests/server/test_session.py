"""A world line driven through the tiny model: slots, recall that is seen in the frames, bounds, determinism."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.world_model import History, Section
from server.session import BrokenSectionError, Session, expected_poses, next_histories

from .tiny_model import TinyModel, TinyState

RIGHT, LEFT, STILL = (1.0, 0.0), (-1.0, 0.0), (0.0, 0.0)


def begin(model: TinyModel, *, seed: int = 7, capacity: int = 64) -> tuple[Session, TinyState]:
    state = model.open(image=None, prompt="", seed=seed)
    [key], [sight] = model.features(state.start.latents), model.sight(state.start.latents)
    return Session(model.spec, state.start, key=key, sight=sight, seed=seed, capacity=capacity), state


def step(model: TinyModel, session: Session, state: TinyState, control: tuple[float, float]) -> np.ndarray:
    """One section: its frames (n, H, W, 3)."""
    count = model.spec.section_latents * model.spec.frames_per_latent
    controls = np.tile(np.array(control, np.float32), (count, 1))
    [history] = next_histories([session], [expected_poses(model, state, controls)])
    jobs = model.begin([state], [controls], [history])
    for _ in range(model.spec.num_steps):
        model.advance(jobs)
    [section] = model.finish(jobs)
    session.commit(section)
    [frames] = model.decode([state], [section])
    session.remember(model.features(section.latents), model.sight(section.latents))
    return frames


def walk(model: TinyModel, session: Session, state: TinyState, *controls: tuple[float, float]) -> np.ndarray:
    return np.concatenate([step(model, session, state, control) for control in controls])


def history_of(session: Session) -> History:
    return next_histories([session], [np.zeros((1, 3), np.float32)])[0]


def test_the_start_is_pinned_and_is_the_newest_until_there_is_more() -> None:
    session, state = begin(TinyModel())
    history = history_of(session)
    assert history.valid.tolist() == [True, False, False, False, False, False, True]
    assert history.indices.tolist() == [0] * 7
    np.testing.assert_array_equal(history.latents[0], state.start.latents[0])
    np.testing.assert_array_equal(history.latents[-1], state.start.latents[0])
    assert not history.latents[1:-1].any()


def test_recent_slots_hold_the_newest_oldest_first() -> None:
    model = TinyModel()
    session, state = begin(model)
    session.recalls = False
    walk(model, session, state, RIGHT, RIGHT)
    history = history_of(session)
    assert history.valid.tolist() == [True, False, False, False, True, True, True]
    assert history.indices[4:].tolist() == [0, 1, 2]
    np.testing.assert_allclose(history.poses[4:, 0], [0.0, 0.5, 1.0])
    walk(model, session, state, *[RIGHT] * 7)
    history = history_of(session)
    assert history.indices.tolist() == [0, 0, 0, 6, 7, 8, 9]
    np.testing.assert_array_equal(history.latents[0], state.start.latents[0])


def test_recalled_slots_hold_what_the_context_lacks_best_first() -> None:
    model = TinyModel()
    session, state = begin(model)
    seen = {0: state.start.latents[0]}
    for i in range(12):
        step(model, session, state, RIGHT)
        seen[i + 1] = session.recent.latents[-1]
    history = next_histories([session], [np.array([[3 * 0.5, 0, 0]], np.float32)])[0]
    assert history.valid[1:3].all()
    assert tuple(history.indices[1:3]) == session.recalled.ids
    assert session.recalled.ids[0] == 3
    assert not {0, 9, 10, 11, 12} & set(session.recalled.ids)
    assert session.recalled.scores[0] > session.recalled.scores[1]
    assert session.recalled.why[0].startswith("pose")
    for slot in (1, 2):
        index = int(history.indices[slot])
        np.testing.assert_array_equal(history.latents[slot], seen[index])
        assert history.poses[slot, 0] == pytest.approx(0.5 * index)


@pytest.mark.parametrize("frames_per_latent", [1, 2])
@pytest.mark.parametrize("section_latents", [1, 3])
def test_there_and_back_is_the_same_place_only_with_recall(section_latents: int, frames_per_latent: int) -> None:
    model = TinyModel(section_latents=section_latents, frames_per_latent=frames_per_latent)
    there_and_back = [RIGHT] * 10 + [LEFT] * 10
    per_section = section_latents * frames_per_latent
    different = {}
    for recalls in (True, False):
        session, state = begin(model)
        session.recalls = recalls
        frames = walk(model, session, state, *there_and_back).astype(int)
        assert len(frames) == session.num_frames == 20 * per_section
        middle = 10 * per_section
        turned = frames[middle : 2 * middle - per_section][::-1]
        different[recalls] = np.abs(turned[: len(turned) // 2] - frames[per_section - 1 :][: len(turned) // 2]).mean()
    assert different[False] > different[True] + 5


def test_with_recall_off_nothing_is_recalled_and_on_again_it_is() -> None:
    model = TinyModel()
    session, state = begin(model)
    walk(model, session, state, *[RIGHT] * 12)
    assert session.recalled.ids
    session.recalls = False
    walk(model, session, state, LEFT)
    assert session.recalled.ids == ()
    session.recalls = True
    walk(model, session, state, LEFT)
    assert session.recalled.ids


def test_recalled_comes_with_the_pictures_that_were_kept() -> None:
    model = TinyModel()
    session, state = begin(model)
    walk(model, session, state, *[RIGHT] * 12)
    for index in range(1, 13, 2):
        session.illustrate(index, b"picture %d" % index)
    target = np.array([[3 * 0.5, 0, 0]], np.float32)
    next_histories([session], [target + 1])
    next_histories([session], [target])
    expected = [b"picture %d" % index if index % 2 else b"" for index in session.recalled.ids]
    assert list(session.recalled.thumbnails) == expected
    assert expected[0] == b"picture 3"


def test_pictures_of_what_the_bank_forgot_are_swept_out() -> None:
    model = TinyModel()
    session, state = begin(model, capacity=8)
    for _ in range(400):
        step(model, session, state, RIGHT)
        session.illustrate(session.num_latents - 1, bytes(10))
    assert len(session._thumbnails) < 8 + 256


def test_a_section_that_is_not_finite_changes_nothing() -> None:
    model = TinyModel()
    session, state = begin(model)
    good = Section(np.ones((1, 3, 4, 8), np.float16), np.zeros((1, 3), np.float32))
    for broken in (
        replace(good, latents=np.full((1, 3, 4, 8), np.nan, np.float16)),
        replace(good, poses=np.full((1, 3), np.inf, np.float32)),
    ):
        with pytest.raises(BrokenSectionError, match="expected finite latents and poses after section 0"):
            session.commit(broken)
    assert session.num_sections == 0
    walk(model, session, state, RIGHT)
    assert session.num_sections == 1


def test_expected_poses_look_ahead_along_the_newest_control() -> None:
    model = TinyModel()
    _, state = begin(model)
    poses = expected_poses(model, state, np.array([RIGHT], np.float32))
    np.testing.assert_allclose(poses[:, 0], [0.5, 12.5, 25.0], atol=0.51)
    assert poses[0, 0] == 0.5
    assert (expected_poses(model, state, np.array([RIGHT], np.float32), seconds=0)[:, 0] == 0.5).all()
    blind = TinyModel()
    blind.spec = replace(blind.spec, has_pose=False)
    assert expected_poses(blind, state, np.array([RIGHT], np.float32)) is None


def test_a_model_that_knows_how_far_it_sees_recalls_what_will_be_seen() -> None:
    model = TinyModel(num_rays=4)
    session, state = begin(model)
    walk(model, session, state, *[RIGHT] * 12)
    next_histories([session], [np.array([[3 * 0.5, 0, 0]], np.float32)])
    assert session.recalled.ids[0] == 3
    assert session.recalled.why[0].startswith("view")


def test_without_poses_it_recalls_what_followed_the_like_of_the_present() -> None:
    model = TinyModel()
    model.spec = replace(model.spec, has_pose=False)
    session, state = begin(model)
    walk(model, session, state, *[RIGHT] * 40)
    assert session.recalled.ids
    assert not history_of(session).poses[1:3].any()


controls = st.lists(st.sampled_from([RIGHT, LEFT, STILL, (0.0, 1.0)]), min_size=1, max_size=12)


@settings(max_examples=30)
@given(controls, controls)
def test_a_batch_of_sessions_recalls_as_each_would_alone(first: list, second: list) -> None:
    model = TinyModel()
    apart, together = [], []
    for made in (apart, together):
        for path in (first, second):
            session, state = begin(model, seed=len(made))
            walk(model, session, state, *path)
            made.append((session, expected_poses(model, state, np.array([path[-1]], np.float32))))
    alone = [next_histories([session], [poses])[0] for session, poses in apart]
    batch = next_histories([session for session, _ in together], [poses for _, poses in together])
    for one, other in zip(alone, batch, strict=True):
        for field in ("latents", "indices", "poses", "valid"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_the_same_seed_and_controls_give_the_same_frames() -> None:
    model = TinyModel()
    path = [RIGHT] * 9 + [LEFT] * 9 + [(0.5, 1.0)] * 5
    once, again, other = (walk(model, *begin(model, seed=seed), *path) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


@pytest.mark.slow
def test_fifty_thousand_frames_in_flat_memory() -> None:
    model = TinyModel()
    session, state = begin(model, capacity=256)
    path = [RIGHT] * 37 + [(0.0, 1.0)] * 3 + [LEFT] * 23

    def resident_after(count: int) -> int:
        for i in range(count):
            step(model, session, state, path[i % len(path)])
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    early, late = resident_after(2_000), resident_after(48_000)
    assert session.num_frames == 50_000
    assert late < early + (1 << 20)
