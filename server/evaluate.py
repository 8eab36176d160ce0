"""Evaluation of whole sessions: the model's protocols with the server's memory, long play, and what memory costs."""

import math
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from memory_bank import BankConfig, MemoryBank, ModeName, Query
from model.evaluation.drift import drifting, looks, pooled_drift, steadiness, true_walk
from model.evaluation.likeness import Glimpses, bent, glimpses
from model.evaluation.pictures import spaced, strip
from model.evaluation.programs import autopilot
from model.evaluation.report import write_report
from model.evaluation.rollout import sample
from model.evaluation.suite import (
    Extent,
    Suite,
    run_control,
    run_drift,
    run_forward,
    run_loops,
    run_retrieval,
    run_revisits,
)
from model.rooms.world import Rooms
from model.world_model import ModelSpec, WorldModel

from .rivals import KEEP_ALL, POLICIES, methods
from .session import expected_poses, next_histories
from .world import Opening, World

PROTOCOLS = ("forward", "revisit", "loop", "drift", "control", "retrieval", "autopilot", "cost")
_CAPACITY = 4096  # of a session's bank in long play, the engine's default
_TIMED: tuple[ModeName, ...] = ("sequel", "view", "pose", "similar")
_BATCH_FRAMES = 32  # of long play, looked at together
_KEPT, _STRIP = 60, 12  # frames of a long run that are held against true ones, and those of them that are drawn
_THIRDS = ("first", "second", "last")  # of a long run
_START_SEED, _GLIMPSES_SEED = 12_000_000, 13_000_000  # floor plans of long play; no set and no training has them


@dataclass(frozen=True, slots=True)
class Options:
    """What is evaluated, how much of it, and where the frozen sets and the report are kept."""

    frozen: Path
    out: Path
    protocols: tuple[str, ...] = PROTOCOLS
    methods: tuple[str, ...] = ("off", *POLICIES)
    extent: Extent = Extent()
    long_runs: int = 20
    long_frames: int = 10_000
    glimpses: int = 240  # of other rooms, that long runs are held against
    cost_entries: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)


def evaluate(model: Rooms, options: Options, *, tell: Callable[[str], None]) -> dict[str, float]:
    """Run the protocols, write the report after each, and return its figures; `tell` hears what is being done.

    Raises ValueError for a protocol or method that is none, or for one video where sessions lend each other memories.
    """
    unknown = set(options.protocols) - set(PROTOCOLS)
    if unknown:
        raise ValueError(f"expected protocols of {', '.join(PROTOCOLS)}, got {', '.join(sorted(unknown))}")
    if options.extent.videos < 2 and any(name in POLICIES and POLICIES[name].is_foreign for name in options.methods):
        raise ValueError("expected at least 2 videos of each set for a method that recalls from another session, got 1")
    rivals = methods(model, options.methods, field_of_view=model.camera.fov)
    [ours] = methods(model, ["ours"], field_of_view=model.camera.fov)
    suite = Suite(model, {way.name: way for way in rivals}, options.frozen, options.out, options.extent, tell)
    runs: dict[str, Callable[[], None]] = {
        "forward": lambda: run_forward(suite, ours),
        "revisit": lambda: run_revisits(suite),
        "loop": lambda: run_loops(suite),
        "drift": lambda: run_drift(suite, ours),
        "control": lambda: run_control(suite, ours),
        "retrieval": lambda: run_retrieval(suite),
        "autopilot": lambda: run_autopilot(
            suite, runs=options.long_runs, frames=options.long_frames, num_glimpses=options.glimpses
        ),
        "cost": lambda: run_cost(suite, options.cost_entries),
    }
    flat: dict[str, float] = {}
    for protocol in options.protocols:
        runs[protocol]()
        flat = write_report(suite.figures, suite.curves, out=options.out, about=_about(model, options))
    return flat


def run_autopilot(
    suite: Suite, *, runs: int, frames: int, num_glimpses: int, clock: Callable[[], float] = time.perf_counter
) -> None:
    """Long play on blind controls: Eq. 7 and motion beside the truth's, time per frame, pictures.

    `autopilot.time_ratio` is the time per frame of the last tenth over that of the second tenth. `autopilot.unlike`
    says how far the first, second and last third of all runs are from `num_glimpses` of other rooms (see `likeness`),
    and `autopilot.unlike_truth` the same of the true walks; `autopilot.bent` and `bent_truth` how far their depth is
    from that of a floor, upright walls and a ceiling.
    """
    shown, true = [], []
    keep = spaced(frames, min(frames, _KEPT))
    kept, kept_true = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, runs, suite.model.spec.max_batch):
        seeds = [_START_SEED + i for i in range(start, min(runs, start + suite.model.spec.max_batch))]
        steering = [np.stack(list(islice(autopilot(np.random.default_rng(seed)), frames))) for seed in seeds]
        suite.tell(f"autopilot, {len(seeds)} runs of {frames} frames: the truth")
        walks = [true_walk(suite.model, row, seed=s, keep=keep) for row, s in zip(steering, seeds, strict=True)]
        suite.tell(f"autopilot, {len(seeds)} runs of {frames} frames: the model")
        flight = _fly(suite.model, [walk.start for walk in walks], np.stack(steering), clock, keep=keep)
        for seed, looked, walk in zip(seeds, flight.looks, walks, strict=True):
            suite.figures.add_all("autopilot", drifting(looked, walk.looks), video=str(seed))
        suite.figures.add("autopilot.time_ratio", flight.time_ratio, video=str(start))
        _save_flight(suite.out / f"autopilot-{start:02d}.png", flight.kept, seeds)
        shown += list(flight.looks)
        true += [walk.looks for walk in walks]
        kept += list(flight.kept)
        kept_true += [walk.kept for walk in walks]
    for i, row in enumerate(steadiness(shown, true)):
        suite.figures.add_all("autopilot", row, video=str(_START_SEED + i))
    suite.curves.long = {"generated": shown, "truth": true}
    suite.figures.add_all("autopilot.pooled", pooled_drift(shown), video="all")
    suite.figures.add_all("autopilot.pooled_truth", pooled_drift(true), video="all")
    size = suite.model.spec.frame_shape[0]
    rooms = Glimpses(suite.model, glimpses(num_glimpses, size=size, first_seed=_GLIMPSES_SEED))
    for key, bend, seen in (("unlike", "bent", kept), ("unlike_truth", "bent_truth", kept_true)):
        for name, part in zip(_THIRDS, np.array_split(np.stack(seen), len(_THIRDS), axis=1), strict=True):
            suite.figures.add(f"autopilot.{key}.{name}", rooms.unlikeness(np.concatenate(list(part))), video="all")
            for i, run in enumerate(part):
                suite.figures.add(f"autopilot.{bend}.{name}", bent(suite.model, run), video=str(_START_SEED + i))


def run_cost(suite: Suite, sizes: Sequence[int]) -> None:
    """What a recall takes from banks of several sizes."""
    for entries in sizes:
        suite.tell(f"cost at {entries} entries")
        suite.figures.add_all(f"cost.n{entries}", recall_cost(suite.model.spec, entries=entries), video="bank")


def play(model: WorldModel, openings: Sequence[Opening], controls: np.ndarray) -> Iterator[np.ndarray]:
    """Worlds played side by side by `controls` (R, T, A), as the server plays them: yields frames (R, H, W, 3)."""
    worlds = [World(model, opening, first_frame=0, capacity=_CAPACITY) for opening in openings]
    for now in range(controls.shape[1]):
        steps = list(controls[:, now : now + 1])
        targets = [expected_poses(model, world.state, step) for world, step in zip(worlds, steps, strict=True)]
        histories = next_histories([world.session for world in worlds], targets)
        states = [world.state for world in worlds]
        sections = sample(model, states, steps, histories)
        for world, section in zip(worlds, sections, strict=True):
            world.session.commit(section)
            world.remember()
        yield np.concatenate(model.decode(states, sections))


def recall_cost(spec: ModelSpec, *, entries: int, rounds: int = 20) -> dict[str, float]:
    """Median time of a recall from a bank of `entries` synthetic keys, and bytes.

    `key_bytes` is the bank without latents, `bytes` with those that it would hold for the model.
    """
    bank, keys, poses = _synthetic_bank(entries, spec, num_later=rounds)
    figures: dict[str, float] = {}
    for mode in _TIMED:
        lens = spec.field_of_view if mode == "view" else None
        queries = [_synthetic_query(entries + i, keys[i], poses[i], mode, lens) for i in range(rounds)]
        took = [bank.recall(query).took_us for query in queries]
        figures[f"{mode}_us"] = float(np.median(took))
    held = bank.stats().num_bytes
    return figures | {"key_bytes": held, "bytes": held + entries * 2 * math.prod(spec.latent_shape)}


@dataclass(frozen=True, slots=True)
class _Flight:
    looks: np.ndarray  # (R, T, 4)
    kept: np.ndarray  # (R, n, H, W, 3): some of the frames
    time_ratio: float


def _fly(
    model: WorldModel,
    images: Sequence[np.ndarray],
    controls: np.ndarray,
    clock: Callable[[], float],
    *,
    keep: Container[int],
) -> _Flight:
    """Play from `images` by `controls` (R, T, A), looking at the frames as they come."""
    kept: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    openings = [Opening(image=image, prompt="", seed=i) for i, image in enumerate(images)]
    frames = play(model, openings, controls)
    before, ticks = np.stack(images), [clock()]
    while batch := list(islice(frames, _BATCH_FRAMES)):
        first = len(rows) * _BATCH_FRAMES
        kept += [frame for i, frame in enumerate(batch, first) if i in keep]
        by_run = np.stack(batch, 1)
        rows.append(np.stack([looks(run, start) for run, start in zip(by_run, before, strict=True)]))
        before = by_run[:, -1]
        ticks.append(clock())
    return _Flight(np.concatenate(rows, 1), np.stack(kept, 1), _time_ratio(np.diff(ticks)))


def _time_ratio(spent: np.ndarray) -> float:
    tenth = max(1, len(spent) // 10)
    return float(np.median(spent[-tenth:]) / np.median(spent[tenth : 2 * tenth] if len(spent) > tenth else spent))


def _save_flight(path: Path, kept: np.ndarray, seeds: Sequence[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {f"seed {seed}": frames for seed, frames in zip(seeds, kept, strict=True)}
    strip(rows, spaced(kept.shape[1], min(kept.shape[1], _STRIP))).save(path)


def _synthetic_bank(num: int, spec: ModelSpec, *, num_later: int) -> tuple[MemoryBank, np.ndarray, np.ndarray]:
    """A full bank of a walk in laps, and the keys (num_later, d) and poses of where it goes next."""
    size, rays = spec.feature_size, spec.num_rays
    angle = np.arange(num + num_later) / 900 * 2 * np.pi
    radius = 5 + 2 * np.sin(np.sqrt(2) * angle)
    poses = np.stack([radius * np.cos(angle), radius * np.sin(angle), angle + np.pi / 2], 1).astype(np.float32)
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((4, size)).astype(np.float32)
    keys = np.empty((len(poses), size), np.float32)
    for i in range(0, len(poses), 4096):
        part = poses[i : i + 4096]
        place = np.concatenate([part[:, :2] / 2, np.cos(part[:, 2:]), np.sin(part[:, 2:])], 1)
        drawn = np.cos(place @ weights) + 0.2 * generator.standard_normal((len(part), size), np.float32)
        keys[i : i + 4096] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    config = BankConfig(key_size=size, latent_shape=(1, 1, 1), capacity=num, novelty=KEEP_ALL, num_rays=rays)
    bank = MemoryBank(config)
    state = bank.state() | {
        "ids": np.arange(num),
        "keys": keys[:num],
        "latents": np.ones((num, 1, 1, 1), np.float16),
        "poses": poses[:num],
        "sights": np.full((num, rays), 0.5, np.float32),
        "twin_ids": np.arange(num) - 1,
        "twin_cos": np.full(num, 0.9, np.float32),
        "counters": np.asarray([num - 1, 0, 0, 0]),
    }
    return MemoryBank.restore(bank.config, state), keys[num:], poses[num:]


def _synthetic_query(index: int, key: np.ndarray, pose: np.ndarray, mode: ModeName, lens: float | None) -> Query:
    context = frozenset(range(index - 19, index))
    return Query(index=index, key=key, num=5, context=context, mode=mode, poses=pose[None], field_of_view=lens)


def _about(model: Rooms, options: Options) -> str:
    spec, extent = model.spec, options.extent
    return (
        f"Model `{spec.name}`, {spec.num_steps} steps, schedule `{spec.schedule}`, "
        f"{spec.context_tokens} context tokens; {extent.videos} videos of each set, {extent.seeds} seeds; "
        "intervals are 95 % by bootstrap over videos. PSNR is in dB against the VAE's reconstruction, "
        "`_raw` against the rendered frames, and at most 48.13."
    )
