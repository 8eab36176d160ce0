"""What memories in re-used history slots cost, and what they show, against leaving recall off.

    python -m tests.model.framepack.bench_recall [--sections N] [--json]

A camera pans over a painted panorama, twice around or there and back, and the true frames are what a session has shown:
so the slots are judged, and no weights. FramePack's network and VAE are tiny and random; what they make of a memory
needs the released weights, and whoever has them asks by `recalled=2` and `recalled=0` behind the model's name.

tokens           of the context: memories take the slots of the oldest past, so none are added
section_ms       a section's sampling, recall included
recall_us        finding the memories
shown_db         PSNR of the next section's frames against the most alike that any slot shows, where the camera has been
moved            how far memories move the latents that are made: the mean change over their mean size
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from model.framepack.world import FramePack
from model.world_model import History, Section
from server.session import next_histories
from server.world import Opening, World
from tests.model.hunyuan import tiny

SECTIONS = 40
ROUND = 20  # sections of a full turn
SPEED = 4  # pixels a frame
FRAMES, LATENTS, SHAPE = 12, 3, (48, 80)  # of a section, and of a frame
NUM_RECENT, NUM_RECALLED = 19, (0, 1, 2, 3)


@dataclass(frozen=True)
class Figures:
    """Of one walk with as many memories."""

    tokens: int
    section_ms: float
    recall_us: float
    shown_db: float
    moved: float


class Walk:
    """Frames of a panorama, and their latents, by section; `turns_back` half of the way or goes around again."""

    def __init__(self, model: FramePack, *, sections: int, turns_back: bool) -> None:
        steps = np.arange(sections * FRAMES + 1)
        middle = sections * FRAMES // 2
        offsets = np.minimum(steps, 2 * middle - steps) if turns_back else steps
        wide = panorama(SPEED * FRAMES * ROUND)
        self.frames = np.stack([np.roll(wide, -SPEED * offset, axis=1)[:, : SHAPE[1]] for offset in offsets])
        self.latents = model.encode_video(self.frames)
        self.first_revisit = sections // 2 + 1 if turns_back else ROUND + 1

    def section(self, number: int) -> Section:
        span = slice(1 + number * LATENTS, 1 + (number + 1) * LATENTS)
        return Section(self.latents[span], np.zeros((LATENTS, 3), np.float32))

    def likeness(self, number: int, history: History) -> float:
        """Decibels between the frames of a section and the most alike that a valid slot shows."""
        shown = self.frames[4 * shown_indices(history)].astype(float)
        ahead = self.frames[1 + number * FRAMES : 1 + (number + 1) * FRAMES : 4].astype(float)
        errors = np.square(ahead[:, None] - shown[None]).mean(axis=(2, 3, 4)).min(axis=1)
        return float(10 * np.log10(255**2 / np.maximum(errors, 1.0)).mean())


def shown_indices(history: History) -> np.ndarray:
    """Of the latents that the slots show: a memory stands in for four of the oldest past."""
    first = len(history.valid) - NUM_RECENT
    valid = history.valid.copy()
    for i in range(1, first):
        if valid[i]:
            valid[first + 4 * (i - 1) : first + 4 * i] = False
    indices: np.ndarray = np.unique(history.indices[valid])
    return indices


def panorama(width: int) -> np.ndarray:
    """(H, width, 3) uint8 of painted boards, smooth enough for latents, no two alike."""
    random = np.random.default_rng(0)
    boards = random.integers(0, 256, (6, width // 16, 3)).astype(np.float32)
    wide = np.kron(boards, np.ones((8, 16, 1), np.float32))
    return np.mean([np.roll(wide, shift, axis=1) for shift in range(-4, 5)], axis=0).astype(np.uint8)


def measure(parts: tiny.Parts, *, num_recalled: int, sections: int, turns_back: bool) -> tuple[Figures, np.ndarray]:
    """Figures, but for what only a comparison tells, and the latents that were made along the way."""
    model = tiny.framepack_of(parts, num_recalled=num_recalled)
    walk = Walk(model, sections=sections, turns_back=turns_back)
    world = World(model, Opening(walk.frames[0], "", 0), first_frame=0, capacity=256)
    milliseconds, recalls, likenesses, made = [], [], [], []
    for number in range(sections):
        started = time.perf_counter()
        [history] = next_histories([world.session], [None])
        if number >= walk.first_revisit:
            made.append(_sampled(model, world, history))
            milliseconds.append(1e3 * (time.perf_counter() - started))
            recalls.append(world.session.recall_us)
            likenesses.append(walk.likeness(number, history))
        world.session.commit(walk.section(number))
        world.state.sections += 1
        world.remember()
    likeness, took, recall = (float(np.median(values)) for values in (likenesses, milliseconds, recalls))
    return Figures(model.spec.context_tokens, took, recall, likeness, 0.0), np.stack(made)


def _sampled(model: FramePack, world: World, history: History) -> np.ndarray:
    controls = np.zeros((FRAMES, len(model.spec.controls.axes)), np.float32)
    jobs = model.begin([world.state], [controls], [history])
    while jobs[0].steps_left:
        model.advance(jobs)
    return jobs[0].noisy.cpu().numpy()  # not finished: the state is to stay that of the true walk


def compare(*, sections: int) -> Iterator[tuple[str, Figures]]:
    """Figures by name; `off` first of each walk."""
    parts = tiny.parts()
    for walk, turns_back in (("around", False), ("back", True)):
        without: np.ndarray | None = None
        for count in NUM_RECALLED:
            figures, made = measure(parts, num_recalled=count, sections=sections, turns_back=turns_back)
            without = made if without is None else without
            moved = float(np.abs(made - without).mean() / np.abs(without).mean())
            name = f"{walk}.{f'recalled-{count}' if count else 'off'}"
            yield name, Figures(**asdict(figures) | {"moved": moved})


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Flat keys with numbers, printed too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=int, default=SECTIONS)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    rows = dict(compare(sections=chosen.sections))
    flat = {f"{name}.{key}": value for name, row in rows.items() for key, value in asdict(row).items()}
    table = Table("walk and recall", *asdict(next(iter(rows.values()))))
    for name, row in rows.items():
        table.add_row(
            name, *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in asdict(row).values())
        )
    Console().print_json(json.dumps(flat)) if chosen.json else Console(width=120).print(table)
    return flat


if __name__ == "__main__":
    main()
