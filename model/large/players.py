"""Each family's own way from loaded parts and settings to a model that plays."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from ..checkpoints.modules import read_config
from ..checkpoints.places import Found
from ..framepack.camera import Camera, load_camera
from ..framepack.options import Options, Weights
from ..framepack.world import FramePack
from ..helios.parts import helios
from ..helios.ways import Way, way_of
from ..helios.world import Helios, HeliosOptions
from ..hunyuan.framepack import F1, GUIDANCE, I2V, framepack
from ..wan.framepack import wan
from ..wan.guided import GUIDED
from .settings import Settings, SettingsError

Player = Callable[[Any, Mapping[str, Found], Settings], Any]

IMAGES = (".png", ".jpg", ".jpeg", ".webp")


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
    unused = {"solver": "unipc", "recalled": 0, "starts": ""}
    if wrong := [name for name, default in unused.items() if getattr(settings, name) != default]:
        raise SettingsError(f"expected no {', '.join(wrong)} for helios")
    options = HeliosOptions(prompt_sections=settings.fade, max_batch=settings.batch, cache=settings.rule)
    options = replace(
        options,
        frame_shape=settings.frame_shape(usual=options.frame_shape),
        schedule=settings.schedule or options.schedule,
        decodes_aside=settings.aside == "yes",
    )
    way = way_there(found, settings)
    return helios(parts, way.plan, options, camera=_camera(settings), guidance=way.guidance)


PLAYERS: Mapping[str, Player] = MappingProxyType(
    {
        "framepack-f1": partial(_play_framepack, F1),
        "framepack-i2v": partial(_play_framepack, I2V),
        "wan": _play_wan,
        "wan-14b": _play_wan,
        "helios": _play_helios,
    }
)


def way_there(found: Mapping[str, Found], settings: Settings) -> Way:
    """As Helios' own scheduler has it, but for what the settings say; raises WrongWeightsError or CourseError."""
    way = way_of(read_config(found["scheduler"]), steps=settings.steps)
    return way._replace(guidance=replace(way.guidance, scale=settings.guidance or way.guidance.scale))


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
        decodes_aside=settings.aside == "yes",
    )
    shape = settings.frame_shape(usual=options.frame_shape)
    return replace(options, frame_shape=shape, steps=settings.steps or options.steps)


def _camera(settings: Settings) -> Camera:
    try:
        return load_camera(Path(settings.camera)) if settings.camera else load_camera()
    except OSError as error:
        raise SettingsError(
            f"expected a file of phrases, as `rewander models --show phrases` prints, got {settings.camera}: {error}"
        ) from error
