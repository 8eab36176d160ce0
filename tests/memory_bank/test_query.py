"""The values: what they refuse, how they compare and how they read."""

import pytest

from memory_bank import BankConfig, Recall, Tuning, Why


def test_why_reads_as_a_reason():
    why = Why(mode="sequel", anchor=120, cos=0.914, time=0.0, pose=0.5, mmr=0.25)
    assert str(why) == "sequel after 120: cos 0.91, time 0.00, pose 0.50, mmr 0.25"
    assert str(Why(mode="log", anchor=-1, cos=0.1, time=1.0, pose=0.0, mmr=0.0)).startswith("log: cos 0.10")


def test_recalls_are_equal_whatever_they_took():
    one, other = (Recall(ids=(3,), scores=(0.5,), why=(), gated=False, took_us=took) for took in (10, 99))
    assert one == other
    assert one != Recall(ids=(4,), scores=(0.5,), why=(), gated=False, took_us=10)


@pytest.mark.parametrize("wrong", [{"capacity": 1}, {"key_size": 0}, {"rate": 0.0}, {"latent_shape": (4, 0, 4)}])
def test_a_bank_needs_sizes(wrong):
    with pytest.raises(ValueError, match="expected capacity >= 2, rate > 0 and positive sizes"):
        BankConfig(**{"key_size": 8, "latent_shape": (4, 4, 4)} | wrong)


@pytest.mark.parametrize("rays", [-1, 1])
def test_a_sight_has_two_rays_or_none(rays):
    with pytest.raises(ValueError, match=f"expected no rays or at least 2, got {rays}"):
        BankConfig(key_size=2, latent_shape=(1, 1, 1), num_rays=rays)


@pytest.mark.parametrize("wrong", [{"offsets": ()}, {"offsets": (4, 0)}, {"shortlist": 0}, {"view_radius": 0.0}])
def test_tuning_needs_positive_numbers(wrong):
    with pytest.raises(ValueError, match="expected positive offsets, shortlist and view_radius"):
        Tuning(**wrong)
