"""How fast FramePack's 13 B parameters are beside diffusers' own pipeline, which runs on the same random weights.

    python -m tests.model.hunyuan.bench_framepack [--only CASE ...] [--steps N] [--json] [--small]

480x832, g9, bfloat16, made on the device. Without a GPU, or with --small, all is tiny and only shows that it works.
`--steps` are as many as are timed; caches want 25.

theirs           diffusers' pipeline: seconds a step, of decoding a section, and a frame at 25 steps
ours             this model on the same conditions and noise; `off by` is the greatest difference of latents, relative
attention        the same by other backends, those that are installed
caches           blocks left out by rule; on random weights `steps run` says little about real ones
sessions         2 and 4 in one forward pass: seconds of a step, and of a frame of each
compile          blocks compiled
small            everything streamed, with the allocator capped at 6 GB
utilisation      operations that a step needs, over what large matrix products would do in its time (the ceiling)
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model.checkpoints.fill import Precision
from model.framepack.step_cache import FirstBlockCache, Rule, TeaCache
from model.framepack.world import FramePack
from model.placement.anatomy import Anatomy, Work, dissect
from model.placement.cards import GB, Card, free_host_memory, matmul_ceiling, wait
from model.placement.place import HOST, settle
from model.placement.plan import plan_of
from model.world_model import Section

from .random_framepack import (
    FULL,
    SMALL,
    Size,
    first_jobs,
    outlines,
    random_modules,
    their_section,
    theirs_of,
    world_of,
)

CAP = 6 * GB
USUAL_STEPS = 25
BACKENDS = ("native", "_native_cudnn", "_native_flash", "flash", "_flash_3", "sage")
CASES = ("theirs", "ours", "attention", "caches", "sessions", "compile", "small")


@dataclass(frozen=True)
class Figures:
    """Of one way to make a section."""

    step_seconds: float
    decode_seconds: float  # of one session's section
    frame_seconds: float  # of one session at 25 steps, its share of the batch
    peak_gb: float
    utilisation: float  # 0 to 1, of the ceiling
    ran: float = 1.0  # share of the steps that ran all blocks
    equal: float | None = None  # greatest difference to diffusers' latents, over their greatest value


class Bench:
    """One size on one device. Weights are made once, and shared by all cases but the small one."""

    def __init__(self, size: Size, device: torch.device, *, steps: int) -> None:
        self.size, self.device, self.steps = size, device, steps
        precision = Precision(size.dtype, size.dtype, size.vae_dtype)
        work = Work(size.frame_shape, size.schedule, steps)
        self.anatomy: Anatomy = dissect(outlines(size), work, precision=precision)
        matrix = 8192 if device.type == "cuda" else 128
        self.ceiling = matmul_ceiling(device, size.dtype, size=matrix)
        self.modules: dict[str, Any] = {}
        self._theirs: torch.Tensor | None = None

    def build(self) -> None:
        """The weights, once."""
        if not self.modules:
            self.modules = random_modules(self.size, device=self.device, made=self.device)

    def theirs(self) -> Figures:
        self.build()
        self._forget()
        model = world_of(self.size, self.modules, device=self.device, steps=self.steps)
        pipeline = theirs_of(self.size, model, self.modules, device=self.device)
        their_section(pipeline, model, self.size)  # warm
        started = self._now()
        self._theirs = their_section(pipeline, model, self.size)
        step = (self._now() - started) / self.steps
        return self._figures(step, self._decode(model), sessions=1)

    def ours(self, *, sessions: int = 1, cache: Rule | None = None) -> Figures:
        """With diffusers' latents beside, if they are there."""
        self.build()
        self._forget()
        model = world_of(self.size, self.modules, device=self.device, steps=self.steps, cache=cache)
        return self._run(model, sessions=sessions)

    def attention(self) -> Iterator[tuple[str, Figures]]:
        """Every backend that is installed and takes these shapes."""
        self.build()
        for backend in BACKENDS:
            try:
                self.modules["transformer"].set_attention_backend(backend)
                yield f"attention.{backend.lstrip('_')}", self.ours()
            except (ImportError, RuntimeError, ValueError) as error:  # not installed, or not for this device
                Console(stderr=True).print(f"{backend}: {error}".splitlines()[0], markup=False)
        self.modules["transformer"].set_attention_backend("native")

    def compiled(self) -> Figures:
        """Last of all on these weights: what is compiled stays so."""
        self.build()
        transformer = self.modules["transformer"]
        for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
            block.compile()
        return self.ours()

    def small(self) -> Figures:
        """All streamed, in CAP bytes of the device; drops the weights of the other cases."""
        self.modules.clear()
        self._forget()
        modules = random_modules(self.size, device=HOST, made=self.device)
        model = world_of(self.size, modules, device=self.device, steps=self.steps)
        card = Card("capped", CAP, self.ceiling, GB, free_host_memory())
        plan = plan_of(self.anatomy, card, streamed=frozenset(self.anatomy.parts), tiles=True, quantized="")
        network = model.network
        self._forget()
        with _capped(self.device):
            settle(
                plan,
                modules,
                denoiser=network.denoiser,
                packer=network.packer,
                device=self.device,
                compute=self.size.dtype,
            )
            return self._run(model, sessions=1)

    def _run(self, model: FramePack, *, sessions: int) -> Figures:
        jobs = first_jobs(model, sessions=sessions)
        times = []
        while jobs[0].steps_left:
            started = self._now()
            model.advance(jobs)
            times.append(self._now() - started)
        # with a cache steps differ, and the mean counts; else the first may be slow for reasons of its own
        step = statistics.fmean(times) if jobs[0].caches else statistics.median(times[1:] or times)
        ran = 1 - jobs[0].caches[0].num_skipped / len(times) if jobs[0].caches else 1.0
        figures = self._figures(step, self._decode(model), sessions=sessions)
        return replace(figures, ran=ran, equal=self._difference(jobs[0].noisy))

    def _decode(self, model: FramePack) -> float:
        """Seconds of a section behind another, as all but the first are."""
        spec = model.spec
        noise = np.random.default_rng(0).standard_normal((spec.section_latents, *spec.latent_shape))
        section = Section(noise.astype(np.float16), np.zeros((spec.section_latents, 3), np.float32))
        state = model.open(image=None, prompt="", seed=0)
        model.decode([state], [section])
        started = self._now()
        model.decode([state], [section])
        return self._now() - started

    def _figures(self, step: float, decode: float, *, sessions: int) -> Figures:
        frames = self.anatomy.section_frames
        flops = sessions * self.anatomy.step.flops
        is_gpu = self.device.type == "cuda"
        return Figures(
            step_seconds=step,
            decode_seconds=decode,
            frame_seconds=(USUAL_STEPS * step / sessions + decode) / frames,
            peak_gb=torch.cuda.max_memory_allocated(self.device) / GB if is_gpu else 0.0,
            utilisation=flops / step / self.ceiling,
        )

    def _difference(self, latents: torch.Tensor) -> float | None:
        if self._theirs is None:
            return None
        return float((latents - self._theirs).abs().max() / self._theirs.abs().max())

    def _now(self) -> float:
        wait(self.device)
        return time.perf_counter()

    def _forget(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


@contextmanager
def _capped(device: torch.device) -> Iterator[None]:
    """Inside, the allocator refuses more than CAP bytes."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP / total), device)
    yield
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def cases(bench: Bench, only: Sequence[str]) -> Iterator[tuple[str, Figures]]:
    """Figures by name, in an order that lets each have the machine it needs."""
    several: Mapping[str, Callable[[], Iterator[tuple[str, Figures]]]] = {
        "theirs": lambda: iter([("theirs", bench.theirs())]),
        "ours": lambda: iter([("ours", bench.ours())]),
        "attention": bench.attention,
        "caches": lambda: _caches(bench),
        "sessions": lambda: ((f"sessions.{n}", bench.ours(sessions=n)) for n in (2, 4)),
        "compile": lambda: iter([("compile", bench.compiled())]),
        "small": lambda: iter([("small", bench.small())]),
    }
    for name in CASES:
        if name in only:
            yield from several[name]()


def _caches(bench: Bench) -> Iterator[tuple[str, Figures]]:
    yield "teacache", bench.ours(cache=TeaCache())
    yield "first-block", bench.ours(cache=FirstBlockCache())


def table(rows: Mapping[str, Figures], *, ceiling: float) -> Table:
    out = Table("", "s/step", "s/decode", "s/frame", "peak GB", "utilisation", "steps run", "off by")
    for name, row in rows.items():
        equal = "" if row.equal is None else f"{row.equal:.1e}"
        times = (f"{value:.3f}" for value in (row.step_seconds, row.decode_seconds, row.frame_seconds))
        out.add_row(name, *times, f"{row.peak_gb:.1f}", f"{row.utilisation:.0%}", f"{row.ran:.0%}", equal)
    out.caption = f"ceiling: {ceiling / 1e12:.3f} TFLOPS"
    return out


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Flat keys with numbers, printed too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    chosen = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = SMALL if chosen.small or device.type == "cpu" else FULL
    bench = Bench(size, device, steps=chosen.steps)
    rows: dict[str, Figures] = {}
    console = Console()
    with torch.inference_mode():
        for name, figures in cases(bench, chosen.only):
            rows[name] = figures
            Console(stderr=True).print(f"{name}: {figures.step_seconds:.3f} s a step", markup=False)
    flat = {
        f"{name}.{key}": value for name, row in rows.items() for key, value in asdict(row).items() if value is not None
    }
    flat["ceiling"] = bench.ceiling
    console.print_json(json.dumps(flat)) if chosen.json else console.print(table(rows, ceiling=bench.ceiling))
    return flat


if __name__ == "__main__":
    main()
