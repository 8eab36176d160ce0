"""Each family's own way from loaded parts and settings to a model that plays."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from diffusers.schedulers.scheduling_helios import HeliosScheduler
from diffusers.schedulers.scheduling_helios_dmd import HeliosDMDScheduler
from PIL import Image

from ..checkpoints.places import Found
from ..framepack.camera import Camera, load_camera
from ..framepack.options import Options, Weights
from ..framepack.world import FramePack
from ..helios.course import Plan, StraightPlan
from ..helios.parts import helios
from ..helios.pyramid import PyramidPlan
from ..helios.world import Helios, HeliosOptions
from ..hunyuan.framepack import F1, GUIDANCE, I2V, framepack
from ..wan.framepack import wan
from ..wan.guided import GUIDED
from .settings import Settings, SettingsError

Player = Callable[[Any, Mapping[str, Found], Settings], Any]

IMAGES = (".png", ".jpg", ".jpeg", ".webp")
PYRAMID_STEPS, DISTILLED_STEPS, STRAIGHT_STEPS = 10, 2, 50  # diffusers' own: of each size, and of all


def _play_framepack(weights: Weights, parts: Any, found: Mapping[str, Found], settings: Settings) -> FramePack:  # noqa: ARG001 - a Player
    return framepack(
        parts,
        weights,
        _options(settings),
        camera=_camera(settings),
        starts=starts(settings),
        guidance=settings.guidance or GUIDANCE,
    )


def _play_wan(parts: Any, found: Mapping[str, Found], settings: Settings) -> FramePack:  # noqa: ARG001 - a Player
    guidance = replace(GUIDED, scale=settings.guidance or GUIDED.scale)
    return wan(parts, _options(settings), camera=_camera(settings), starts=starts(settings), guidance=guidance)


def _play_helios(parts: Any, found: Mapping[str, Found], settings: Settings) -> Helios:
    """Settings that Helios has no use for are refused."""
    unused = {"solver": "unipc", "cache": "", "recalled": 0, "starts": ""}
    if wrong := [name for name, default in unused.items() if getattr(settings, name) != default]:
        raise SettingsError(f"expected no {', '.join(wrong)} for helios")
    options = HeliosOptions(prompt_sections=settings.fade, max_batch=settings.batch)
    options = replace(
        options,
        frame_shape=settings.frame_shape(usual=options.frame_shape),
        schedule=settings.schedule or options.schedule,
    )
    guidance = replace(GUIDED, scale=settings.guidance or GUIDED.scale)
    plan = plan_of(found["scheduler"], steps=settings.steps)
    return helios(parts, plan, options, camera=_camera(settings), guidance=guidance)


PLAYERS: Mapping[str, Player] = MappingProxyType(
    {
        "framepack-f1": partial(_play_framepack, F1),
        "framepack-i2v": partial(_play_framepack, I2V),
        "wan": _play_wan,
        "wan-14b": _play_wan,
        "helios": _play_helios,
    }
)


def plan_of(scheduler: Found, *, steps: int) -> Plan:
    """As a checkpoint's own scheduler goes; `steps` in all, 0 for diffusers' own number. Raises SettingsError."""
    config = json.loads((scheduler.folder / scheduler.component.config).read_text())
    is_distilled = config.get("_class_name") == HeliosDMDScheduler.__name__
    made: Any = (HeliosDMDScheduler if is_distilled else HeliosScheduler).from_config(config)
    stages: int = made.config.stages
    if stages == 1:
        return StraightPlan(made, num_steps=steps or STRAIGHT_STEPS)
    if steps % stages:
        raise SettingsError(f"expected steps for {stages} sizes alike, a multiple of that, got {steps}")
    each = steps // stages or (DISTILLED_STEPS if is_distilled else PYRAMID_STEPS)
    return PyramidPlan(made, (each,) * stages, is_thorough_at_first=is_distilled)


def starts(settings: Settings) -> list[np.ndarray]:
    """Images (H, W, 3) uint8 of the folder, by name; raises SettingsError if there is none in it."""
    if not settings.starts:
        return []
    paths = sorted(path for path in Path(settings.starts).glob("*") if path.suffix.lower() in IMAGES)
    if not paths:
        raise SettingsError(f"expected images ({', '.join(IMAGES)}) in {settings.starts}, found none")
    try:
        return [np.array(Image.open(path).convert("RGB")) for path in paths]
    except OSError as error:
        raise SettingsError(f"expected images in {settings.starts}: {error}") from error


def _options(settings: Settings) -> Options:
    options = Options(
        schedule=settings.schedule,
        solver=settings.solver,
        cache=settings.rule,
        num_recalled=settings.recalled,
        prompt_sections=settings.fade,
        max_batch=settings.batch,
    )
    shape = settings.frame_shape(usual=options.frame_shape)
    return replace(options, frame_shape=shape, steps=settings.steps or options.steps)


def _camera(settings: Settings) -> Camera:
    return load_camera(Path(settings.camera)) if settings.camera else load_camera()
