"""Planned orders: each sampling gets the latents, controls and prompts that its place in the clip calls for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.clips.latents import LatentFile
from model.clips.planned import PlannedMaker, PlannedModel, Stage, check_order, plan
from model.clips.request import ClipRequest, Given, Order
from model.clips.timeline import Timeline
from model.drift.discretize import Codebook, CodebookError
from model.drift.orders import EMPTY, OrderError
from model.packing.schedule import ScheduleError

from .planned_model import SECTION, SHAPE, PlannedTiny

ORDERS: tuple[Order, ...] = ("vanilla", "endpoint", "planned", "inverted")
SECONDS = 3.0  # 36 frames, 6 sections


def stage(model: PlannedTiny, request: ClipRequest, *, ends: int = 0) -> Stage:
    state = model.open(image=None, prompt="", seed=request.seed)
    after = [np.full(SHAPE, 0.9, np.float16)] * ends
    return Stage(model, state, request, Timeline.parse(request.timeline), [state.start.latents[0]], after)


def made(path: Path, stage: Stage, *, stop: int | None = None) -> LatentFile:
    """The latents of a whole clip, or of the first samplings."""
    file = LatentFile(path, shape=(SECTION, *SHAPE))
    maker = PlannedMaker(stage, file)
    done = [i for i, _ in enumerate(maker.order) if sum(map(len, maker.order[: i + 1])) <= len(file)]
    maker.restore(file)
    for number in range(len(done), len(maker.order) if stop is None else stop):
        making = maker.make(number)
        steps = 0
        try:
            while True:
                next(making)
                steps += 1
        except StopIteration as end:
            for section in end.value:
                file.append(section)
        assert steps == 2
    return file


@pytest.mark.parametrize(
    ("order", "sections"),
    [
        ("vanilla", [(0,), (1,), (2,), (3,), (4,), (5,)]),
        ("endpoint", [(0, 5), (1,), (2,), (3,), (4,)]),
        ("planned", [(2,), (5,), (0,), (1,), (3,), (4,)]),
        ("inverted", [(5,), (4,), (3,), (2,), (1,), (0,)]),
    ],
)
def test_an_order_makes_each_section_once(tmp_path: Path, order: Order, sections: list[tuple[int, ...]]) -> None:
    request = ClipRequest(seconds=SECONDS, order=order, endpoints=2)
    with LatentFile(tmp_path / "latents", shape=(SECTION, *SHAPE)) as file:
        assert PlannedMaker(stage(PlannedTiny(), request), file).order == sections


@pytest.mark.parametrize("order", ORDERS)
def test_a_sampling_sees_what_its_plan_says(tmp_path: Path, order: Order) -> None:
    model = PlannedTiny()
    whole = stage(model, ClipRequest(seconds=SECONDS, order=order, endpoints=2, seed=4), ends=1)
    file = made(tmp_path / "latents", whole)
    maker = PlannedMaker(whole, file)
    places = [section for sections in maker.order for section in sections]
    latents = {0: whole.before[0], 19: whole.after[0], EMPTY: np.zeros(SHAPE, np.float16)}
    for rank, section in enumerate(places):
        latents |= {1 + section * SECTION + i: latent for i, latent in enumerate(file.read(rank).latents)}
    assert [aim.sampling for aim in model.aims] == list(plan(whole))
    for aim in model.aims:
        for view in aim.sampling.context:
            np.testing.assert_array_equal(aim.latents(view.sources), np.stack([latents[i] for i in view.sources]))


@pytest.mark.parametrize("order", ORDERS)
def test_going_on_gives_the_same_latents(tmp_path: Path, order: Order) -> None:
    request = ClipRequest(seconds=SECONDS, order=order, endpoints=2)
    whole = made(tmp_path / "whole", stage(PlannedTiny(), request))
    made(tmp_path / "parts", stage(PlannedTiny(), request), stop=2).close()
    parts = made(tmp_path / "parts", stage(PlannedTiny(), request))
    assert len(whole) == len(parts) == 6
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    assert len({float(section.latents[0, 0, 0, 0]) for section in whole}) > 3


def test_controls_and_prompts_are_those_of_the_target(tmp_path: Path) -> None:
    model = PlannedTiny()
    timeline = "[0s-500ms: turn=0.5 the beginning] [2.5s: turn=-1 the end]"
    made(tmp_path / "latents", stage(model, ClipRequest(seconds=SECONDS, order="endpoint", timeline=timeline)))
    first, second = model.aims[:2]
    assert first.sampling.target == (1, 2, 3, 16, 17, 18)
    assert first.prompts == ("the beginning", "the end")
    assert first.controls[:, 0].tolist() == [0.5] * 6 + [-1] * 6
    assert second.prompts == ("the beginning",)
    assert not second.controls.any()


def test_a_clip_has_a_plan_only_if_the_schedule_fits() -> None:
    model = PlannedTiny()
    with pytest.raises(OrderError, match="sections of 3 latents, got f2k2f1k1_g9"):
        list(plan(stage(model, ClipRequest(schedule="f2k2f1k1_g9"))))
    with pytest.raises(OrderError, match="inverted form"):
        list(plan(stage(model, ClipRequest(order="inverted", schedule="f2k2f1k1_g3"))))
    with pytest.raises(ScheduleError, match="got 'k1'"):
        list(plan(stage(model, ClipRequest(schedule="f2k2_k1"))))
    with pytest.raises(OrderError, match="from 1 to 6 endpoints"):
        list(plan(stage(model, ClipRequest(seconds=SECONDS, order="planned", endpoints=7))))


def test_an_end_needs_an_order_that_reaches_it() -> None:
    model = PlannedTiny()
    assert isinstance(model, PlannedModel)
    with pytest.raises(
        OrderError,
        match=r"endpoint, planned, inverted .*planned can follow endpoint and planned and inverted.* got van",
    ):
        check_order(ClipRequest(given=Given(end="e.png")), model)
    for order in ("endpoint", "planned", "inverted"):
        check_order(ClipRequest(order=order, given=Given(end="e.png")), model)


def test_an_order_the_model_was_not_made_for_is_refused() -> None:
    model = PlannedTiny(schedules={"inverted": "f1k1_x_g3_f1k1f2k2"})
    with pytest.raises(OrderError, match="order inverted, which planned can follow, got vanilla"):
        check_order(ClipRequest(), model)


def test_times_of_prompts_are_section_middles(tmp_path: Path) -> None:
    """At 12 frames a second a section lasts half a second."""
    model = PlannedTiny()
    request = ClipRequest(seconds=1.5, prompt="own", timeline="[700ms-1s: late] [1.3s: too late]")
    made(tmp_path / "latents", stage(model, request))
    assert [aim.prompts for aim in model.aims] == [("own",), ("late",), ("own",)]


def test_a_discrete_schedule_shows_entries_of_the_weights_codebook(tmp_path: Path) -> None:
    entries = torch.tensor([[0.25, 0.25], [0.75, 0.75]])
    model = PlannedTiny(codebook=Codebook(entries))
    request = ClipRequest(seconds=SECONDS, schedule="f1k1f2k2f1k1_g3+D", timeline="[0s: turn=1]")
    file = made(tmp_path / "latents", stage(model, request))
    for aim in model.aims[1:]:
        for view in aim.sampling.context:
            seen = aim.latents(view.sources)
            assert set(np.unique(seen)) <= {0.0, 0.25, 0.75}
            assert all(not seen[i].any() for i, source in enumerate(view.sources) if source == EMPTY)
    assert not np.isin(file.read(0).latents, (0.25, 0.75)).any()


def test_a_discrete_schedule_without_a_codebook_is_refused(tmp_path: Path) -> None:
    request = ClipRequest(schedule="f1k1f2k2f1k1_g3+D")
    with pytest.raises(CodebookError, match=r"codebook\.safetensors.*\+D"):
        check_order(request, PlannedTiny())
    with LatentFile(tmp_path / "latents", shape=(SECTION, *SHAPE)) as file, pytest.raises(CodebookError):
        PlannedMaker(stage(PlannedTiny(), request), file)
    check_order(request, PlannedTiny(codebook=Codebook(torch.zeros(1, 2))))
