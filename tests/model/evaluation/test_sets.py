"""Frozen sets rendered for real, small: where they end, what they repeat, and that they are kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from model.evaluation.sets import FORMAT, SETS, are_known, can_render, known_hashes, load, load_or_render, render
from model.evaluation.sight import split_views
from model.rooms.camera import Camera

SIZE = 32
WALKS = {"walk-doom-my-way-home", "walk-doom-deathmatch"}
DOOM = WALKS | {"forward-doom-my-way-home", "aba-doom-my-way-home"}


@pytest.fixture(scope="module")
def videos():
    """One of each of some sets; a floor plan takes a second."""
    names = ("aba-short", "spin-360", "loop-abca", "into-wall", "mirror")
    return {name: render(SETS[name], 0, size=SIZE) for name in names}


def test_every_set_has_context_for_the_recent_window_and_seeds_of_its_own():
    firsts = [frozen.first_seed for frozen in SETS.values()]
    assert len(set(firsts)) == len(SETS) and min(firsts) >= 10_000_000
    for frozen in SETS.values():
        assert 20 <= frozen.first < frozen.length


def test_videos_are_as_long_as_their_set_says(videos):
    for name, video in videos.items():
        length = SETS[name].length
        assert [len(part) for part in (video.frames, video.controls, video.poses, video.reach)] == [length] * 4
        assert video.frames.shape[1:] == (SIZE, SIZE, 3) and not video.controls[0].any()


def test_a_set_with_a_home_ends_there_and_looks_the_same(videos):
    for name in ("aba-short", "spin-360", "loop-abca", "mirror"):
        video, home = videos[name], SETS[name].home
        apart = video.poses[-1] - video.poses[home]
        apart[2] = (apart[2] + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(apart).max() < 1e-4
        assert np.abs(video.frames[-1].astype(int) - video.frames[home]).mean() < 0.5
        middle = (SETS[name].first + SETS[name].length) // 2 - (name == "spin-360")
        assert np.abs(video.frames[middle].astype(int) - video.frames[-1]).mean() > 5


def test_controls_lead_where_the_video_goes(videos):
    for name in ("aba-short", "loop-abca", "mirror"):
        poses = videos[name].poses
        turned = -np.diff(poses[:, 2]) / Camera().turn
        assert turned == pytest.approx(videos[name].controls[1:, 2], abs=1e-4)
        assert np.hypot(*np.diff(poses[:, :2], axis=0).T) == pytest.approx(
            Camera().step * np.hypot(*videos[name].controls[1:, :2].T), abs=1e-4
        )


def test_the_wall_stops_the_walk_after_the_context(videos):
    first, poses = SETS["into-wall"].first, videos["into-wall"].poses
    steps = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    assert (steps[: first - 1] > 0.09).all() and (steps[-25:] < 1e-6).all()
    assert (videos["into-wall"].controls[1:, 0] > 0.5).all()


def test_the_way_back_revisits_and_half_a_spin_does_not(videos):
    for name, low, high in (("aba-short", 0.6, 1.0), ("spin-360", 0.1, 0.6)):
        split = split_views(Camera(), videos[name].views, first=SETS[name].first, recent=19)
        assert low <= split.is_revisit.mean() <= high
        assert not (split.is_revisit & split.is_novel).any()


def test_a_video_is_rendered_once_and_then_read(tmp_path, videos):
    frozen = SETS["spin-90"]
    [rendered] = load_or_render(frozen, tmp_path, videos=1, size=SIZE)
    path = tmp_path / "spin-90" / "000.safetensors"
    written = path.stat().st_mtime_ns
    [again] = load_or_render(frozen, tmp_path, videos=1, size=SIZE)
    assert path.stat().st_mtime_ns == written and list(path.parent.iterdir()) == [path]
    for name in ("frames", "controls", "poses", "reach"):
        assert (getattr(again, name) == getattr(rendered, name)).all()
    assert again.seed == rendered.seed and again.digest == rendered.digest == render(frozen, 0, size=SIZE).digest
    assert again.digest != videos["spin-360"].digest


def test_a_video_that_looked_less_far_is_rendered_again(tmp_path):
    frozen = replace(SETS["spin-90"], length=30)
    [usual] = load_or_render(frozen, tmp_path, videos=1, size=SIZE)
    [near] = load_or_render(replace(frozen, farthest=2.5), tmp_path, videos=1, size=SIZE)
    assert near.digest == usual.digest and (usual.farthest, near.farthest) == (12, 2.5)
    assert near.reach == pytest.approx(np.minimum(usual.reach, 2.5)) and usual.reach.max() > 2.5


def test_a_file_that_does_not_tell_how_far_it_looks_is_of_rooms(tmp_path, videos):
    path = tmp_path / "x.safetensors"
    arrays = {name: getattr(videos["mirror"], name) for name in ("frames", "controls", "poses", "reach")}
    save_file(arrays, path, {"format": FORMAT, "seed": "1"})
    assert load(path).farthest == videos["mirror"].farthest == SETS["mirror"].farthest
    assert {frozen.farthest for frozen in SETS.values() if frozen.level} == {48.0}


def test_published_digests_are_told_from_others(videos):
    assert known_hashes().keys() <= SETS.keys()
    assert are_known(SETS["mirror"], [videos["mirror"]]) == [False]  # another size, so other frames
    assert all(len(digest) == 16 for digests in known_hashes().values() for digest in digests)
    assert len(json.dumps(known_hashes())) < 20_000


@pytest.mark.parametrize("name", sorted(WALKS))
def test_a_walk_through_doom_is_like_one_through_rooms(name):
    pytest.importorskip("vizdoom")
    frozen = replace(SETS[name], length=80)
    videos = [render(frozen, number, size=SIZE) for number in (1, 2)]
    assert videos[0].digest != videos[1].digest
    went, farthest = np.zeros(2), 0.0
    for video in videos:
        assert video.frames.shape == (80, SIZE, SIZE, 3) and len(video.reach) == 80
        turned = -np.diff(video.poses[:, 2]) / Camera().turn
        assert turned == pytest.approx(video.controls[1:, 2], abs=2e-3)
        steps = np.hypot(*np.diff(video.poses[:, :2], axis=0).T)
        commanded = Camera().step * np.hypot(*video.controls[1:, :2].T)
        assert (steps <= commanded + 0.01).all()
        assert video.reach.min() > 0.4  # the player's own width away from every wall
        farthest = max(farthest, video.reach.max())
        went += steps.sum(), commanded.sum()
    assert went[0] > 0.5 * went[1] > 0
    assert (12 < farthest <= 48) or name != "walk-doom-deathmatch"


def test_the_way_back_through_doom_ends_where_it_began():
    pytest.importorskip("vizdoom")
    frozen = SETS["aba-doom-my-way-home"]
    video = render(frozen, 1, size=SIZE)
    apart = np.abs(video.poses - video.poses[::-1])
    assert apart[:, :2].max() < 0.05 and apart[:, 2].max() < 0.01
    assert np.ptp(video.poses[:, :2], axis=0).max() > 1
    assert np.abs(video.frames[-1].astype(int) - video.frames[frozen.home]).mean() < 3
    assert np.abs(video.frames[frozen.first].astype(int) - video.frames[-1]).mean() > 5
    split = split_views(Camera(), video.views, first=frozen.first, recent=19)
    assert split.is_revisit.mean() > 0.6


@pytest.mark.parametrize(("spec", "missing"), [("there", set()), (None, DOOM)])
def test_a_set_of_doom_needs_doom(spec, missing):
    assert {name for name, frozen in SETS.items() if not can_render(frozen, find=lambda _: spec)} == missing


def test_a_file_that_is_no_video_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"frames": np.zeros(1)}, path, {"format": "something"})
    with pytest.raises(ValueError, match="rewander-evaluation-1"):
        load(path)
