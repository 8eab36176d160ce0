"""The compared methods, each by what it must and must not change."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.drift.alternatives import (
    anchor_frames,
    causal_mask,
    guide,
    noise_history,
    random_sigmas,
    repeat_image_to_video,
    token_times,
    without_history,
)
from model.drift.orders import EMPTY, Clip, forward
from model.packing.pack import Packer, cut
from model.packing.rope import Rope
from model.packing.schedule import Schedule

WINDOW = Schedule.parse("td_f5k1_g3")
F1 = Schedule.parse("ta_f1k1f4k2f1k1_g3")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sources(sampling):
    return [view.sources for view in sampling.context]


@given(st.integers(1, 6), st.integers(0, 9))
def test_repeated_image_to_video_sees_the_newest_latent_only(sections, given_latents):
    for sampling in forward(F1, Clip(sections, given=given_latents)):
        start, *past, newest = sources(repeat_image_to_video(sampling))
        assert newest == (sampling.target[0] - 1 if sampling.target[0] else EMPTY,)
        assert {*start, *(source for view in past for source in view)} == {EMPTY}
        changed = repeat_image_to_video(sampling)
        assert [view.place for view in changed.context] == [view.place for view in sampling.context]
        assert (changed.target, changed.indices, len(changed.tail.sources)) == (sampling.target, sampling.indices, 0)


def test_anchors_take_the_oldest_slots():
    first, _, third = forward(WINDOW, Clip(3, given=2))
    assert sources(anchor_frames(first)) == sources(first) == [(EMPTY, EMPTY, EMPTY, 0, 1)]
    assert sources(third) == [(3, 4, 5, 6, 7)]
    assert sources(anchor_frames(third)) == [(0, 4, 5, 6, 7)]
    assert sources(anchor_frames(third, anchors=(0, 1, 6))) == [(0, 1, 5, 6, 7)]
    assert sources(anchor_frames(third, anchors=(100,))) == sources(third)
    assert [v.place for v in anchor_frames(third).context] == [v.place for v in third.context]


def test_anchors_leave_the_start_and_equal_segments_alone():
    *_, last = forward(Schedule.parse("f1k1f2k2f2k2f1k1_g3"), Clip(4))
    assert sources(last) == [(0,), (5, 6), (7, 8), (9,)]
    assert sources(anchor_frames(last, anchors=(1, 2, 3))) == [(0,), (1, 2), (3, 8), (9,)]


def test_without_history_only_the_start_is_left():
    *_, last = forward(F1, Clip(4))
    assert sources(without_history(last)) == [(0,), (EMPTY,) * 4, (EMPTY,)]
    assert len(last.tail.sources) > 0 == len(without_history(last).tail.sources)


def test_guidance_extrapolates_away_from_forgetting():
    conditional, unconditional = torch.randn(2, 3, 4, generator=seeded())
    assert torch.allclose(guide(conditional, unconditional, scale=1), conditional)
    assert torch.equal(guide(conditional, unconditional, scale=0), unconditional)
    beyond = guide(conditional, unconditional, scale=2.5) - conditional
    assert torch.allclose(beyond, 1.5 * (conditional - unconditional), atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.5, 1.0])
def test_noised_history_has_the_paths_mean_and_spread(sigma):
    latents = torch.full((1, 4, 8, 32, 32), 3.0)
    noised = noise_history(latents, sigma=sigma, generator=seeded())
    assert noised.mean().item() == pytest.approx(3 * (1 - sigma), abs=0.02)
    assert noised.std().item() == pytest.approx(sigma, abs=0.02)


def test_noise_is_the_same_for_equal_seeds_and_levels_may_differ_by_frame():
    latents = torch.randn(2, 3, 2, 4, 4, generator=seeded())
    levels = torch.tensor([[0.0, 0.5], [1.0, 0.1]])
    noised = noise_history(latents, sigma=levels, generator=seeded(7))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        alone = noise_history(latents, sigma=levels[row, column].item(), generator=seeded(7))
        assert torch.allclose(noised[row, :, column], alone[row, :, column])
    assert torch.equal(noised[0, :, 0], latents[0, :, 0])


def test_noise_never_touches_padding():
    latents = torch.zeros(1, 2, 3, 4, 4)
    latents[:, :, 2] = 1
    noised = noise_history(latents, sigma=0.5, generator=seeded(), valid=torch.tensor([[False, False, True]]))
    assert torch.equal(noised[:, :, :2], latents[:, :, :2])
    assert (noised[:, :, 2] != 1).all()


def test_training_levels_fill_the_interval():
    levels = random_sigmas(50, 40, generator=seeded())
    assert levels.shape == (50, 40)
    assert 0 <= levels.min() < 0.01 < 0.99 < levels.max() < 1
    assert torch.equal(levels, random_sigmas(50, 40, generator=seeded()))


@pytest.mark.parametrize("name", ["f5k2f2k1_g1", "f4s2f1s1f3k1h4w8_g1", "f3k8_g1"])
def test_token_times_are_the_newest_frame_under_each_token(name):
    schedule = Schedule.parse(name)
    frames = sum(s.frames for s in schedule.past)
    indices = torch.stack([torch.randperm(90, generator=seeded(s))[:frames].sort().values for s in (0, 1)])
    latents = indices[:, None, :, None, None].float().expand(-1, 1, -1, 6, 10)
    pieces = cut(schedule.past, latents, indices=indices)
    times = token_times(pieces)
    newest = [F.max_pool3d(p.latents, p.kernel, ceil_mode=True).flatten(1) for p in pieces]  # a frame holds its time
    assert torch.equal(times.float(), torch.cat(newest, dim=1))
    packer = Packer(nn.Conv3d(1, 4, (1, 2, 2), (1, 2, 2)), kernels=[p.kernel for p in pieces], rope=Rope((2, 2, 2)))
    assert packer(pieces).tokens.shape[1] == times.shape[1]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 99))
def test_causal_attention_does_not_see_the_future(times, seed):
    times = torch.tensor([times])
    n = times.shape[1]
    q, k, v = torch.randn(3, 1, 1, n, 8, generator=seeded(seed))
    mask = causal_mask(times)
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
    moment = times[0, 0]
    later = (times > moment)[0, :, None]
    altered = F.scaled_dot_product_attention(q, torch.where(later, 9.0, k), torch.where(later, 9.0, v), mask[:, None])
    earlier = ~later[:, 0]
    assert torch.equal(seen[:, :, earlier], altered[:, :, earlier])
    assert mask[0].sum() == sum((times <= t).sum() for t in times[0])


def test_invalid_keys_are_seen_by_nobody_else():
    mask = causal_mask(torch.tensor([[0, 1, 1, 2]]), valid=torch.tensor([[False, True, False, True]]))
    assert mask[0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
