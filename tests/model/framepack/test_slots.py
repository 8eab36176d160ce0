"""The live layout: which latent stands in which slot, and which slots a memory takes."""

import numpy as np
import pytest
import torch

from model.clips.planned import Aim
from model.drift.orders import EMPTY, Clip, OrderError, forward, inverted
from model.framepack.slots import Slots, SlotsError, aimed_pieces, with_target
from model.packing.schedule import Schedule
from model.world_model import History

NAME = "td_f1k1f16k4f2k2f1k1_g9"
SHAPE = (2, 2, 2)


def slots(num_recalled=0, name=NAME):
    return Slots(Schedule.parse(name), num_recalled=num_recalled)


def history(*, newest, num_recalled=0, recalled=()):
    """Of a session whose latents hold their own index; memories hold 100 and more."""
    indices = np.array([0, *recalled, *[0] * (num_recalled - len(recalled)), *range(newest - 18, newest + 1)])
    valid = np.array([True, *(i < len(recalled) for i in range(num_recalled)), *(indices[-19:] >= 0)])
    latents = np.broadcast_to(indices[:, None, None, None], (len(indices), *SHAPE)).astype(np.float16).copy()
    latents[~valid] = 77  # must not be looked at
    return History(latents, indices.clip(0), np.zeros((len(indices), 3), np.float32), valid)


def content(piece):
    return piece.latents[0, 0, :, 0, 0].tolist()


def test_indices_are_those_of_the_released_model():
    pieces = slots().pieces(history(newest=40))
    assert [piece.indices[0].tolist() for piece in pieces] == [[0], [*range(1, 17)], [17, 18], [19]]
    assert slots().target == tuple(range(20, 29))
    assert [piece.kernel for piece in pieces] == [(1, 2, 2), (4, 8, 8), (2, 4, 4), (1, 2, 2)]


def test_the_newest_latents_stand_nearest_to_the_target():
    start, coarse, middle, last = slots().pieces(history(newest=40))
    assert (content(start), content(last), content(middle)) == ([0], [40], [38, 39])
    assert content(coarse) == [*range(22, 38)]
    assert all(bool(piece.valid.all()) for piece in (start, coarse, middle, last))


def test_slots_before_the_start_are_empty():
    start, coarse, middle, last = slots().pieces(history(newest=1))
    assert content(coarse) == [0] * 16
    assert (content(start), content(middle), content(last)) == ([0], [0, 0], [1])
    assert middle.valid.tolist() == [[False, True]]
    assert not coarse.valid.any()


def test_a_memory_fills_one_of_the_oldest_groups():
    _, coarse, middle, _ = slots(2).pieces(history(newest=40, num_recalled=2, recalled=(101,)))
    assert content(coarse) == [101] * 4 + [*range(26, 38)]  # the second has none and shows the past
    _, coarse, middle, _ = slots(2).pieces(history(newest=40, num_recalled=2, recalled=(101, 102)))
    assert content(coarse) == [101] * 4 + [102] * 4 + [*range(30, 38)]
    assert content(middle) == [38, 39]


def test_a_memory_counts_where_the_past_is_still_short():
    _, coarse, _, _ = slots(1).pieces(history(newest=3, num_recalled=1, recalled=(101,)))
    assert content(coarse)[:5] == [101] * 4 + [0]
    assert coarse.valid[0].tolist() == [True] * 4 + [False] * 11 + [True]


@pytest.mark.parametrize("name", ["f16k4f2k2f1k1_g9", "f2k1f16k4f1k1_g9", "f1k1_x_g9_f1k1", "ta_f1k1f16k4f1k1_g9"])
def test_other_layouts_are_refused(name):
    with pytest.raises(SlotsError, match="got"):
        slots(name=name)


@pytest.mark.parametrize("num_recalled", [-1, 4, 9])
def test_memories_leave_some_of_the_past(num_recalled):
    assert slots(3).target == slots().target
    with pytest.raises(SlotsError, match=f"fewer memories than the 4 groups of f16k4, got {num_recalled}"):
        slots(num_recalled)


def test_a_planned_sampling_sees_what_its_plan_says():
    plan = list(inverted(Schedule.parse("f1k1_x_g9_f1k1f2k2f16k4_td"), Clip(3)))

    def latents(sources):
        values = np.array([0 if source == EMPTY else source for source in sources], np.float16)
        return np.broadcast_to(values[:, None, None, None], (len(values), *SHAPE))

    pieces = aimed_pieces(Aim(plan[1], latents, np.zeros((36, 1), np.float32), ("",)))
    assert [content(piece) for piece in pieces] == [[0], [19], [20, 21], [*range(22, 28), *[0] * 10]]
    assert [piece.indices[0, 0].item() for piece in pieces] == [0, 19, 20, 22]
    assert pieces[-1].valid.tolist() == [[True] * 6 + [False] * 10]
    assert all(piece.latents.dtype == torch.float32 for piece in pieces)


def test_a_tail_that_is_kept_is_refused():
    *_, last = forward(Schedule.parse("tc_f1k1f2k2f1k1_g9"), Clip(3))
    with pytest.raises(OrderError, match="deletes its tail"):
        aimed_pieces(Aim(last, lambda sources: np.zeros((len(sources), *SHAPE)), np.zeros((36, 1)), ("",)))


def test_sections_are_resized():
    assert with_target("f1k1_x_g9_f1k1f2k2f16k4_td", target=3) == "f1k1_x_g3_f1k1f2k2f16k4_td"
