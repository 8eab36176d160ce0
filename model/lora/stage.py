"""`rewander train lora`: from recorded episodes and a model's weights to adapters; a killed run loses little."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from ..checkpoints.fill import EXACT, Precision, check_fit
from ..checkpoints.load import FAMILIES as CHECKPOINTS
from ..checkpoints.load import Family, fill_all, find
from ..checkpoints.lora import LoraError
from ..checkpoints.places import Found, Shelf
from ..framepack.camera import SHIPPED as PHRASES
from ..framepack.camera import Camera, load_camera
from ..framepack.pictures import LatentFormat, Pictures
from ..hunyuan.framepack import latent_format as hunyuan_latents
from ..packing.schedule import Schedule
from ..placement.anatomy import Work
from ..placement.measure import META, retype
from ..placement.survey import SMALLER
from ..rooms.weights import SHIPPED, Networks, load_weights
from ..rooms.world import SCHEDULE
from ..training.latents import Latents, encode_episodes, load_latents
from ..training.loop import Run
from ..training.stages import fastest_device
from ..wan.framepack import WAN
from ..wan.framepack import latent_format as wan_latents
from .films import encode_films, longest
from .forecast import Lesson, check, foresee, free_memory
from .framepack import FilmTraining, Student, film_task
from .remembered import remember
from .rooms import RoomsTraining, codebook_in, rooms_task, write_variant
from .students import HUNYUAN, hunyuan_learned, hunyuan_student, wan_learned, wan_student
from .students import WAN as WAN_LINEARS
from .task import LoraTask, LoraTraining, train_lora

ROOMS, TRANSFORMER = "rooms", "transformer"
FILMS = "films"  # the folder of what is encoded
WEIGHTS = "dit.safetensors"  # what a folder of weights of `rooms` has

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoraOrder:
    """What is asked for. `folder` gets films, checkpoint and log, and in the end the adapters."""

    folder: Path
    episodes: Path
    weights: Shelf
    prompt: str = ""  # of all episodes, before what was pressed
    phrases: Path = PHRASES  # for what was pressed; not of `rooms`
    frame_shape: tuple[int, int] = (480, 832)
    schedule: str = ""  # of the history; the model's own if empty; for `rooms` several, separated by commas
    history_noise: float = 0.0
    entries: int = 128  # of the codebook, for schedules with +D
    seed: int = 0
    device: str = ""  # CUDA where there is one if empty
    threads: int = 1
    memory: int = 0  # bytes that may be taken; what is free if 0
    tell: Callable[[str], object] = logger.info  # what it will take, before weights are read, and what is done

    def files(self) -> list[Path]:
        files = sorted(self.episodes.glob("*.safetensors"))
        if not files:
            raise LoraError(f"expected episodes (*.safetensors) in {self.episodes}; `rewander record` makes them")
        return files


def stage_lora(model: str, order: LoraOrder, training: LoraTraining, *, steps: int) -> Path:
    """Train to `steps` and return the folder that `fuse_lora` reads.

    Raises LoraError for a model without a task, MissingWeightsError or WrongWeightsError, DoesNotFitError before
    weights are read, ScheduleError, CameraError or OSError for phrases, and ValueError for files that are no episodes.
    """
    if model not in TASKS:
        raise LoraError(f"expected a model that LoRA fine-tunes, one of {', '.join(TASKS)}, got {model!r}")
    if model != ROOMS and Schedule.parse(order.schedule or WAN.schedules["vanilla"]).is_discrete:
        raise LoraError(f"expected a schedule without +D, which only {ROOMS} learns, for {model}, got {order.schedule}")
    torch.set_num_threads(order.threads)
    run = Run(order.folder / "lora", steps)
    train_lora(TASKS[model](model, order, training), run, training, seed=order.seed)
    return run.folder


def _framepack_task(model: str, order: LoraOrder, training: LoraTraining) -> LoraTask:
    """Networks take turns, the VAE first and the transformer last: all of them at once need twice the room."""
    schedule, camera = Schedule.parse(order.schedule or WAN.schedules["vanilla"]), load_camera(order.phrases)
    networks = _outlined(model, order)
    _foresee(model, order, networks, schedule=schedule, rank=training.rank)
    drawn = FilmTraining(schedule, prompt=order.prompt, history_noise=order.history_noise)
    films = _encode(order, networks, FAMILIES[model].latent_format)
    parts = _remember(order, networks, films, drawn, camera)
    return film_task(FAMILIES[model].student(parts, schedule), films, drawn, camera=camera, seed=order.seed)


class _Networks(NamedTuple):
    """Of a checkpoint, in outline until they are read."""

    checkpoint: Family
    found: Mapping[str, Found]
    modules: dict[str, nn.Module]
    precision: Precision
    device: torch.device

    def read(self, names: Iterable[str]) -> None:
        own = {name: self.modules[name] for name in names}
        fill_all(self.checkpoint, own, self.found, at=dict.fromkeys(own, self.device), precision=self.precision)

    def release(self, names: Iterable[str]) -> None:
        """Outlines again, whoever still refers to them."""
        for name in names:
            self.modules[name].to(META)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # which is in pieces of other sizes than what comes next


def _outlined(model: str, order: LoraOrder) -> _Networks:
    """In the types that they will have."""
    checkpoint, found, device = (
        CHECKPOINTS[model],
        find(order.weights, model),
        torch.device(order.device or fastest_device()),
    )
    precision = checkpoint.precision if device.type == "cuda" else EXACT
    modules = checkpoint.outline(found)
    for name, module in modules.items():
        retype(module, precision.of(name), precise=checkpoint.precise if name == TRANSFORMER else "")
    return _Networks(checkpoint, found, modules, precision, device)


def _foresee(model: str, order: LoraOrder, networks: _Networks, *, schedule: Schedule, rank: int) -> None:
    """Tell what learning will take; raises DoesNotFitError, or WrongWeightsError by the heads of the files."""
    modules, precision, device = networks.modules, networks.precision, networks.device
    others = FAMILIES[model].learned(modules[TRANSFORMER], schedule)
    lesson = Lesson(FAMILIES[model].linears, rank, others, frames=longest(order.files(), order.folder / FILMS))
    shapes = [shape for shape in SMALLER if math.prod(shape) < math.prod(order.frame_shape)]
    forecasts = (
        (f"--size {w}x{h}", foresee(modules, lesson, Work((h, w), str(schedule)), precision=precision, device=device))
        for h, w in (order.frame_shape, *shapes)
    )
    order.tell(f"training {model}")
    check(forecasts, memory=order.memory or free_memory(device), tell=order.tell)
    check_fit(modules[TRANSFORMER], networks.found[TRANSFORMER])  # not after all films were encoded


def _encode(order: LoraOrder, networks: _Networks, form: Callable[[Any], LatentFormat]) -> list[Path]:
    """Films of all episodes."""
    networks.read(["vae"])
    vae = networks.modules["vae"]
    pictures = Pictures(vae, form(vae), device=networks.device)
    films = list(encode_films(pictures, order.files(), order.folder / FILMS, shape=order.frame_shape))
    networks.release(["vae"])
    order.tell(f"{len(films)} films are encoded")
    return films


def _remember(order: LoraOrder, networks: _Networks, films: list[Path], drawn: FilmTraining, camera: Camera) -> Any:
    """Parts that need no encoders for these films; what is left of them is the transformer, which is read last."""
    encoders = networks.modules.keys() - {"vae", TRANSFORMER}
    networks.read(encoders)
    parts = networks.checkpoint.assemble(networks.modules, networks.found, device=networks.device)
    parts = remember(parts, films, drawn, camera=camera)
    networks.release(encoders)
    order.tell("prompts and start images are encoded")
    networks.read([TRANSFORMER])
    return parts


def _rooms_task(_model: str, order: LoraOrder, _learning: LoraTraining) -> LoraTask:
    """`order.weights` may name a folder of weights, `order.episodes` one of episodes or of what training encoded."""
    training = RoomsTraining(tuple((order.schedule or SCHEDULE).split(",")), noise=order.history_noise)
    networks, _ = load_weights(next((path for path in order.weights.roots if (path / WEIGHTS).exists()), SHIPPED))
    device, run = order.device or fastest_device(), order.folder / "lora"
    data = _rooms_latents(order, networks)
    is_discrete = any(Schedule.parse(schedule).is_discrete for schedule in training.schedules)
    codebook = codebook_in(run, data, size=order.entries, seed=order.seed) if is_discrete else None
    for network in networks:
        network.to(device)
    task = rooms_task(data, networks, training, codebook=codebook, seed=order.seed)
    write_variant(run, training)
    return task


def _rooms_latents(order: LoraOrder, networks: Networks) -> Latents:
    if (order.episodes / "done").exists():
        return load_latents(order.episodes)
    for _ in encode_episodes(networks.vae, order.files(), order.folder / "latents"):
        pass
    return load_latents(order.folder / "latents")


class _Family(NamedTuple):
    """What differs between the networks of FramePack's kind."""

    student: Callable[[Any, Schedule], Student]
    latent_format: Callable[[Any], LatentFormat]
    linears: str
    learned: Callable[[Any, Schedule], int]  # numbers of a transformer's outline that learn in full


_WAN = _Family(wan_student, wan_latents, WAN_LINEARS, wan_learned)
_HUNYUAN = _Family(hunyuan_student, hunyuan_latents, HUNYUAN, hunyuan_learned)
FAMILIES: Mapping[str, _Family] = MappingProxyType({"wan": _WAN, "wan-14b": _WAN, "framepack-f1": _HUNYUAN})

# What a model adds here to be fine-tuned: a LoraTask made of what was asked for.
TASKS: Mapping[str, Callable[[str, LoraOrder, LoraTraining], LoraTask]] = MappingProxyType(
    dict.fromkeys(FAMILIES, _framepack_task) | {ROOMS: _rooms_task}
)
