"""How fast FramePack's 13 B parameters are beside diffusers' own pipeline, which runs on the same random weights.

    python -m tests.model.hunyuan.bench_framepack [--only CASE ...] [--steps N] [--seconds N] [--json] [--small]

480x832, g9, bfloat16, made on the device: 80 GB of it and 64 GB of the machine's memory, and no network. Without a
GPU, or with --small, all is tiny and only shows that it works. `--steps` are as many as are timed, 6 by default, and
25 with caches. After `--seconds`, 480 by default, no other case begins; a case that fails stops no other. It needs
torch, diffusers, transformers, accelerate, safetensors, numpy, pillow, msgspec and rich.

theirs           diffusers' pipeline: seconds a step, of decoding a section, and a frame at 25 steps
ours             this model on the same conditions and noise; `off by` is the greatest difference of latents, relative
attention        the same by other backends, those that are installed
caches           blocks left out by rule; on random weights `steps run` says little about real ones
sessions         2 and 4 in one forward pass: seconds of a step, and of a frame of each
compile          blocks compiled, with the best backend of `attention`; then with a cache too
quantized        weights in fewer bits, by those packages that are installed
small            everything streamed, with the allocator capped at 6 GB
utilisation      operations that a step needs, over what large matrix products would do in its time (the ceiling)

Bars, printed with what was reached: `bar.speed`, seconds a frame of theirs over the best of ours, attention and
compile; `bar.cached`, over the best with a cache; `bar.small`, GB at the most in the 6 GB mode, which made a section.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_dispatch import attention_backend
from rich.console import Console
from rich.table import Table

from model.checkpoints.fill import Precision
from model.framepack.step_cache import FirstBlockCache, Rule, TeaCache
from model.framepack.world import FramePack
from model.placement.anatomy import Anatomy, Work, dissect
from model.placement.cards import GB, Card, free_host_memory, matmul_ceiling, wait
from model.placement.place import HOST, settle
from model.placement.plan import Quantized, plan_of
from model.placement.quantize import quantize
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
SECONDS = 480.0  # leaves a case that has begun two minutes of ten
BACKENDS = ("native", "_native_cudnn", "_native_flash", "flash", "_flash_3", "sage")
QUANTIZED: tuple[Quantized, ...] = ("fp8", "int8", "nf4")
CASES = ("theirs", "ours", "attention", "caches", "sessions", "compile", "quantized", "small")
FAILURES = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
BARS = {"speed": 1.3, "cached": 2.0, "small": CAP / GB}  # the first two at least, the last at most


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
        self._decoding: float | None = None
        self._backend = BACKENDS[0]

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
        """With diffusers' latents beside, if they are there and of as many steps."""
        self.build()
        self._forget()
        steps = USUAL_STEPS if cache and self.size is FULL else self.steps
        model = world_of(self.size, self.modules, device=self.device, steps=steps, cache=cache)
        return self._run(model, sessions=sessions)

    def attention(self) -> Iterator[tuple[str, Figures]]:
        """Every backend that is installed and takes these shapes; the quickest is used from then on."""
        self.build()
        seconds: dict[str, float] = {}
        for backend in BACKENDS:
            try:
                self._attend(backend)
                figures = self.ours()
            except FAILURES as error:  # not installed, or not for this device
                complain(f"attention {backend}", error)
                continue
            seconds[backend] = figures.step_seconds
            yield f"attention.{backend.lstrip('_')}", figures
        self._backend = min(seconds, key=lambda backend: seconds[backend])
        self._attend(self._backend)

    def _attend(self, backend: str) -> None:
        with attention_backend("native"):  # which is back afterwards, for diffusers' own pipeline
            self.modules["transformer"].set_attention_backend(backend)

    def compiled(self) -> Iterator[tuple[str, Figures]]:
        """Last of all on these weights: what is compiled stays so."""
        self.build()
        transformer = self.modules["transformer"]
        for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
            block.compile()
        self.ours()  # compiles
        yield "compile", self.ours()
        yield "compile.teacache", self.ours(cache=TeaCache())

    def quantized(self) -> Iterator[tuple[str, Figures]]:
        """Each on weights of its own; drops those of the other cases."""
        for kind in QUANTIZED:
            self.modules.clear()
            self._forget()
            try:
                modules = random_modules(self.size, device=self.device, made=self.device)
                model = world_of(self.size, modules, device=self.device, steps=self.steps)
                quantize(model.network.denoiser, kind, device=self.device, compute=self.size.dtype)
                self._forget()
                yield f"quantized.{kind}", self._run(model, sessions=1)
            except FAILURES as error:  # not installed, or not for this device
                complain(f"quantized {kind}", error)

    def small(self) -> Figures:
        """All streamed, in CAP bytes of the device; drops the weights of the other cases."""
        self.modules.clear()
        self._decoding = None  # in tiles, and streamed
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
        return replace(figures, ran=ran, equal=self._difference(jobs[0].noisy) if len(times) == self.steps else None)

    def _decode(self, model: FramePack) -> float:
        """Seconds of a section behind another, as all but the first are; measured once for all that decode alike."""
        if self._decoding is not None:
            return self._decoding
        spec = model.spec
        noise = np.random.default_rng(0).standard_normal((spec.section_latents, *spec.latent_shape))
        section = Section(noise.astype(np.float16), np.zeros((spec.section_latents, 3), np.float32))
        state = model.open(image=None, prompt="", seed=0)
        model.decode([state], [section])
        started = self._now()
        model.decode([state], [section])
        self._decoding = self._now() - started
        return self._decoding

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
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


@contextmanager
def _capped(device: torch.device) -> Iterator[None]:
    """Inside, the allocator refuses more than CAP bytes."""
    if device.type != "cuda":
        yield
        return
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, CAP / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def measured(bench: Bench, only: Sequence[str], *, seconds: float) -> dict[str, Figures]:
    """Figures by name, in an order that lets each case have the machine it needs; what fails is told and left out."""
    several: Mapping[str, Callable[[], Iterator[tuple[str, Figures]]]] = {
        "theirs": lambda: iter([("theirs", bench.theirs())]),
        "ours": lambda: iter([("ours", bench.ours())]),
        "attention": bench.attention,
        "caches": lambda: _caches(bench),
        "sessions": lambda: ((f"sessions.{n}", bench.ours(sessions=n)) for n in (2, 4)),
        "compile": bench.compiled,
        "quantized": bench.quantized,
        "small": lambda: iter([("small", bench.small())]),
    }
    rows: dict[str, Figures] = {}
    started = time.perf_counter()
    for case in (case for case in CASES if case in only):
        if time.perf_counter() - started > seconds:
            complain(case, TimeoutError(f"not begun, after {seconds:.0f} s"))
            continue
        try:
            for name, figures in several[case]():
                rows[name] = figures
                Console(stderr=True).print(f"{name}: {figures.step_seconds:.3f} s a step", markup=False)
        except FAILURES as error:
            complain(case, error)
    return rows


def complain(case: str, error: BaseException) -> None:
    """Of a case that has no figures."""
    said = str(error).splitlines() or [""]
    Console(stderr=True).print(f"{case}: {type(error).__name__}: {said[0]}", markup=False, soft_wrap=True)


def bars(rows: Mapping[str, Figures]) -> dict[str, float]:
    """What was reached of BARS, by name, as far as the rows tell."""
    reached = {}
    equal = [row for name, row in rows.items() if name in ("ours", "compile") or name.startswith("attention.")]
    cached = [row for name, row in rows.items() if name.endswith(("teacache", "first-block"))]
    for name, candidates in (("speed", equal), ("cached", cached)):
        if "theirs" in rows and candidates:
            reached[name] = rows["theirs"].frame_seconds / min(row.frame_seconds for row in candidates)
    if "small" in rows:
        reached["small"] = rows["small"].peak_gb
    return reached


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


def verdicts(reached: Mapping[str, float]) -> Iterator[str]:
    """Bars in words."""
    for name, value in reached.items():
        is_reached = value <= BARS[name] if name == "small" else value >= BARS[name]
        yield f"bar.{name}: {value:.2f} of {BARS[name]:.1f}, {'reached' if is_reached else 'not reached'}"


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Flat keys with numbers, printed too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    chosen = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = SMALL if chosen.small or device.type == "cpu" else FULL
    bench = Bench(size, device, steps=chosen.steps)
    rows = measured(bench, chosen.only, seconds=chosen.seconds)
    flat = {
        f"{name}.{key}": value for name, row in rows.items() for key, value in asdict(row).items() if value is not None
    }
    reached = bars(rows)
    flat |= {f"bar.{name}": value for name, value in reached.items()} | {"ceiling": bench.ceiling}
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print_json(json.dumps(flat)) if chosen.json else console.print(table(rows, ceiling=bench.ceiling))
    for verdict in verdicts(reached):
        Console(stderr=True).print(verdict, markup=False)
    return flat


if __name__ == "__main__":
    main()
