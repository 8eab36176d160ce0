"""One session's work, section by section, with the clock and the other thread in the test's hands."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from model.world_model import Section
from server.diary import Diary, DiaryConfig
from server.failure import Failure
from server.feed import Feed, Mailbox, Produced, SessionEndedError
from server.journal import Advanced, Illustrated, Opened, Prompted, Reader, Syncer
from server.line import COME_BACK_AFTER, MAX_STRIKES, Line
from server.link import Link, SharedControls
from server.protocol import Input
from server.session import expected_poses, next_histories
from server.world import Opening, World
from server.worlds import list_worlds

from .tiny_model import SCHEMA, TinyModel


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def line(clock: Clock, loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Iterator[Line]:
    model = TinyModel(section_latents=2, frames_per_latent=2)
    link = Link("s", SharedControls(SCHEMA), Feed(clock=clock, changed=lambda: None), loop, player_gone_at=10.0)
    world = World(model, Opening(None, "", 7), first_frame=100, capacity=32)
    diary = Diary(DiaryConfig(tmp_path), Syncer())
    diary.begin(world.opened(session="s", created=0.0))
    yield Line(link, world, diary, clock=clock, grace=5.0)
    diary.close()


def work(line: Line, clock: Clock) -> tuple[Section, np.ndarray]:
    """Generate one section in 30 ms, up to where it can be kept and shown."""
    world = line.world
    controls = line.take_controls()
    clock.now += 0.03
    histories = next_histories([world.session], [expected_poses(world.model, world.state, controls)])
    [line.job] = world.model.begin([world.state], [controls], histories)
    while line.job.steps_left:
        world.model.advance([line.job])
    [section] = world.model.finish([line.job])
    [frames] = world.model.decode([world.state], [section])
    return section, frames


def test_a_section_that_takes_long_says_how_far_it_is_until_it_is_shown(line: Line, clock: Clock) -> None:
    controls, world = line.take_controls(), line.world
    [history] = next_histories([world.session], [expected_poses(world.model, world.state, controls)])
    [line.job] = world.model.begin([world.state], [controls], [history])
    world.model.advance([line.job])
    line.note_step(drafts=True)
    assert line.progress is None
    clock.now += 1.01
    line.note_step(drafts=True)
    assert line.progress is not None
    first = line.progress
    assert (first.frame, first.step, first.num_steps, first.draft) == (100, 1, 2, None)
    clock.now += 0.5
    line.note_step(drafts=True)
    assert line.progress is first  # once a second
    clock.now += 0.5
    line.world.model.advance([line.job])
    line.note_step(drafts=True)
    assert line.progress is first  # nothing is left to wait for
    [section] = line.world.model.finish([line.job])
    line.keep(section, aside=False)
    assert line.progress is None


def show(line: Line, section: Section, frames: np.ndarray) -> None:
    line.keep(section, aside=False)
    line.show(frames)


def shown(line: Line, loop: asyncio.AbstractEventLoop, clock: Clock) -> list[Produced]:
    """What comes out in the next half second, a frame at a time."""
    seen: list[Produced] = []

    async def look() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
            clock.now += 0.01
            line.link.feed.release([])
            if line.link.feed.newest not in [None, *seen[-1:]]:
                seen.append(line.link.feed.newest)

    loop.run_until_complete(look())
    return seen


def test_a_section_is_shown_frame_by_frame_with_its_receipt(
    line: Line, loop: asyncio.AbstractEventLoop, clock: Clock
) -> None:
    line.link.controls.receive(Input(seq=3, ts=33.0, keys=["KeyW"]), 9.5)
    assert line.take_controls().tolist() == [[0.0, 1.0]] * 4
    show(line, *work(line, clock))
    frames = shown(line, loop, clock)
    assert [produced.index for produced in frames] == [100, 101, 102, 103]
    for produced in frames:
        assert (produced.applied_seq, produced.client_ts) == (3, 33.0)
        assert (produced.t_recv, produced.t_applied) == (9_500.0, 10_000.0)
        assert produced.generate_ms == pytest.approx(30.0)
    assert line.job is None


def test_a_tap_acts_in_the_first_frame_of_a_section_only(line: Line) -> None:
    line.link.controls.receive(Input(seq=1, presses={"KeyW": 1}), 9.0)
    assert line.take_controls()[:, 1].tolist() == [1, 0, 0, 0]


def test_it_wants_turns_while_someone_sees_it_and_it_is_not_paused(line: Line, clock: Clock) -> None:
    assert not line.link.is_wanted
    line.link.player_gone_at = None  # a player who still connects
    assert line.link.is_wanted and not line.wants_turn()
    clock.now = 50.0
    with closing(Mailbox(line.link.feed)) as mailbox:
        mailbox.open()
        assert line.wants_turn()
        assert line.pacer.begin_at == 50.0
        line.set(recalls=None, paused=True)
        assert not line.wants_turn()
        line.set(recalls=None, paused=False)
        line.link.player_gone_at = 50.0
        assert line.wants_turn()
    assert not line.wants_turn()


def test_it_is_abandoned_when_the_grace_is_over(line: Line) -> None:
    assert line.abandoned_at == 15.0
    line.link.player_gone_at = None
    assert line.abandoned_at is None


def test_what_memory_keeps_gets_the_picture_of_its_last_frame(line: Line, clock: Clock, tmp_path: Path) -> None:
    line.link.controls.receive(Input(seq=1, keys=["ArrowRight"]), 9.0)
    section, frames = work(line, clock)
    show(line, section, frames)
    line.remember()
    line.illustrate(frames, thumbnail=lambda frame: frame.tobytes())
    line.set_prompt("a garden")
    line.diary.close()
    [world] = list_worlds(tmp_path)
    records = list(Reader(tmp_path / f"{world.name}.world"))
    assert [type(record) for record in records] == [Opened, Advanced, Illustrated, Illustrated, Prompted]
    pictures = {record.index: record.thumbnail for record in records if isinstance(record, Illustrated)}
    assert pictures == {1: frames[1].tobytes(), 2: frames[3].tobytes()}


def test_strikes_in_a_row_end_it(line: Line, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
    told: list[str] = []
    mailbox = Mailbox(line.link.feed, set_back=told.append)
    mailbox.open()
    for _ in range(MAX_STRIKES - 1):
        line.strike(Failure("MemoryError: no room"))
    loop.run_until_complete(asyncio.sleep(0))
    assert len(told) == MAX_STRIKES - 1 and all("MemoryError: no room" in reason for reason in told)
    show(line, *work(line, clock))
    for _ in range(MAX_STRIKES):
        assert line.ended is None
        line.strike(Failure("MemoryError: no room"))
    assert line.ended is not None
    assert (line.ended.code, line.ended.retry_after) == ("session.failed", COME_BACK_AFTER)
    assert "MemoryError: no room" in str(line.ended)
    loop.run_until_complete(asyncio.sleep(0))
    assert line.link.feed.ended is line.ended


def test_a_new_world_counts_frames_on_and_drops_what_waits(
    line: Line, loop: asyncio.AbstractEventLoop, clock: Clock, tmp_path: Path
) -> None:
    line.set(recalls=False, paused=None)
    show(line, *work(line, clock))
    old = line.world
    line.enter(
        World(old.model, Opening(None, "", 8), first_frame=old.next_frame, capacity=32),
        created=1.0,
    )
    show(line, *work(line, clock))
    frames = shown(line, loop, clock)
    assert [produced.index for produced in frames][-4:] == [104, 105, 106, 107]
    assert not {101, 102, 103} & {produced.index for produced in frames}
    assert not line.world.session.recalls
    line.diary.close()
    assert [world.opened.seed for world in list_worlds(tmp_path) if world.opened] == [7, 8]


def test_what_is_decoded_aside_is_shown_as_it_was_begun(
    line: Line, loop: asyncio.AbstractEventLoop, clock: Clock, tmp_path: Path
) -> None:
    """The next section takes its controls, and fails, before the frames of the one before it are there."""
    line.link.controls.receive(Input(seq=3, ts=33.0, keys=["KeyW"]), 9.5)
    section, frames = work(line, clock)
    line.keep(section, aside=True)
    records = list(Reader(next(tmp_path.iterdir())))
    assert [type(record) for record in records] == [Opened, Advanced]  # it is not lost, whatever comes
    assert line.job is None and line.kept is not None
    line.link.controls.receive(Input(seq=4, ts=44.0), 10.0)
    work(line, clock)
    assert line.is_sampled and line.kept is not None
    line.strike(Failure("no room"))
    line.show(frames)
    assert line.kept is None and line.strikes == 1  # the failure was of a section that began later
    seen = shown(line, loop, clock)
    assert [produced.index for produced in seen] == [100, 101, 102, 103]
    assert {(produced.applied_seq, round(produced.generate_ms)) for produced in seen} == {(3, 60)}
    show(line, *work(line, clock))
    assert line.strikes == 0


def test_frames_of_a_world_that_was_left_meanwhile_are_dropped(
    line: Line, loop: asyncio.AbstractEventLoop, clock: Clock
) -> None:
    section, frames = work(line, clock)
    line.keep(section, aside=True)
    line.remember()
    old = line.world
    line.enter(World(old.model, Opening(None, "", 8), first_frame=old.next_frame, capacity=32), created=1.0)
    line.show(frames)
    line.illustrate(frames, thumbnail=lambda frame: frame.tobytes())
    assert shown(line, loop, clock) == []
    show(line, *work(line, clock))
    assert [produced.index for produced in shown(line, loop, clock)] == [104, 105, 106, 107]


def test_frames_that_cannot_be_made_are_missed_where_they_would_be_seen(line: Line, clock: Clock) -> None:
    section, _ = work(line, clock)
    line.keep(section, aside=True)
    assert line.lose() and line.kept is None
    section, _ = work(line, clock)
    line.keep(section, aside=True)
    line.end(SessionEndedError("session.closed", "closed"))
    assert not line.lose()


def test_the_first_end_counts(line: Line, loop: asyncio.AbstractEventLoop) -> None:
    first = SessionEndedError("session.closed", "first")
    line.end(first)
    line.end(SessionEndedError("session.abandoned", "second"))
    loop.run_until_complete(asyncio.sleep(0))
    assert line.ended is line.link.feed.ended is first
