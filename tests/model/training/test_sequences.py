import numpy as np

from model.training.sequences import RECALLED, RECENT, Drawing, draw, episode_of, recall_for_training
from tests.model.training.episodes import data

DRAWING = Drawing(batch=2, targets=4, recall_dropout=0.0)


def test_batches_hold_what_led_to_the_targets() -> None:
    made = data()
    for seed in range(20):
        one = draw(made, DRAWING, np.random.default_rng(seed))
        assert one.clip.shape == (2, RECENT + 4, 16, 16, 16)
        assert one.memory.shape == (2, 1 + RECALLED, 16, 16, 16)
        for b in range(2):
            frames = one.frames[b].clamp(min=0)
            episode = next(e for e in range(2) if np.allclose(made.poses[e][frames[-1]], one.poses[b, -1]))
            assert np.array_equal(made.latents[episode][frames], one.clip[b].numpy().astype(np.float16))
            assert np.array_equal(made.depths[episode][frames], one.depths[b].numpy().astype(np.float16))
            assert np.array_equal(made.controls[episode][frames], one.controls[b].numpy())
            memory = one.memory_frames[b]
            assert np.array_equal(made.depths[episode][memory], one.memory_depths[b].numpy().astype(np.float16))
            recalled = memory[1:][one.memory_valid[b, 1:]]
            targets = one.frames[b, RECENT:]
            assert not np.isin(recalled, targets).any()


def test_recall_prefers_what_the_targets_will_see() -> None:
    """Half of the episode looks north, half south; targets look north."""
    poses = np.zeros((200, 3), np.float32)
    poses[60:140, 2] = np.pi
    rng = np.random.default_rng(0)
    chosen = np.concatenate([recall_for_training(poses, 150, DRAWING, rng)[0] for _ in range(20)])
    assert ((chosen < 60) | (chosen >= 140)).mean() > 0.9
    first_frames, valid = recall_for_training(poses[:6], 2, DRAWING, rng)
    assert not valid.any()
    assert not first_frames.any()


def test_a_faster_walk_takes_every_so_manieth_frame_and_all_its_controls() -> None:
    made = data()
    walk = episode_of(made, 1, 4)
    assert len(walk.poses) == len(walk.controls) == len(walk.latents) == len(walk.depths)
    for i in range(1, len(walk.poses)):
        assert np.array_equal(walk.latents[i], made.latents[1][4 * i])
        assert np.allclose(walk.controls[i], made.controls[1][4 * i - 3 : 4 * i + 1].sum(0), atol=1e-5)
    at_once = draw(made, Drawing(batch=2, targets=4, strides=(3,)), np.random.default_rng(0))
    for b, e in enumerate(at_once.episodes.tolist()):
        kept = at_once.frames[b].clamp(min=0)
        assert np.array_equal(made.poses[e][3 * kept], at_once.poses[b])
        assert np.array_equal(made.poses[e][3 * at_once.memory_frames[b][0]], at_once.memory_poses[b, 0])


def test_walks_are_no_faster_than_their_length_allows() -> None:
    made = data()  # of 60 frames
    drawing = Drawing(batch=8, targets=12, strides=(1, 4, 5, 8))
    drawn = {s for seed in range(10) for s in draw(made, drawing, np.random.default_rng(seed)).strides.tolist()}
    assert drawn == {1, 4}
