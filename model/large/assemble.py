"""From settings to a model that plays: find, plan, read, merge, put together, and settle where the plan has it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_dispatch import attention_backend
from msgspec import structs
from torch import nn

from ..checkpoints.fill import EXACT
from ..checkpoints.load import FAMILIES, Family, fill_all, find
from ..checkpoints.lora import Change, merge_lora, read_lora
from ..checkpoints.places import Found
from ..clips.planned import DiscreteModel
from ..drift.discretize import CODEBOOK, load_codebook
from ..lora.files import fuse_lora
from ..placement.anatomy import Work
from ..placement.cards import Card, card_here
from ..placement.describe import describe
from ..placement.place import homes, settle
from ..placement.plan import Plan, decide_first
from ..placement.quantize import check_quantizer, quantize
from ..placement.survey import smaller, survey_modules, usual_work
from .players import PLAYERS, way_there
from .settings import Settings, SettingsError

BATCHES = (2, 1)  # sessions at once that are tried

logger = logging.getLogger(__name__)


def assemble(model: str, settings: Settings, *, card: Card | None = None) -> Any:
    """The WorldModel of a name in the catalogue; takes minutes. `card` is by default what is here.

    Raises SettingsError, QuantizerMissingError, MissingWeightsError, WrongWeightsError, LoraError, DoesNotFitError, and
    what the model says of its options. Everything but the contents of the weights is checked before they are read.
    """
    check_quantizer(settings.quantize)
    family = FAMILIES[model]
    found = find(settings.shelf, model, transformer=Path(settings.transformer) if settings.transformer else None)
    modules = family.outline(found)
    changes = _changes(modules["transformer"], settings)
    card = card or (None if settings.device == "cpu" else card_here())
    plan = _plan(model, modules, found, settings, card) if card else None
    settings = _settled(settings, plan)
    device = torch.device(settings.device or ("cuda" if plan else "cpu"))
    if device.type == "cuda" and plan is None:
        raise SettingsError("expected device=cpu or nothing, since there is no CUDA device here, got device=cuda")
    _read(family, modules, found, plan, device)
    for change, strength in changes:
        merge_lora(modules["transformer"], change, strength=strength)
    world = PLAYERS[model](family.assemble(modules, found, device=device), found, settings)
    _finish(world, modules, settings, plan, device)
    return world


def _settled(settings: Settings, plan: Plan | None) -> Settings:
    """With what follows from the plan, where they say nothing."""
    aside = "yes" if plan and plan.can_decode_aside else "no"
    batch = plan.batch if plan else settings.batch or BATCHES[0]
    return structs.replace(settings, batch=batch, aside=settings.aside or aside)


def work_of(model: str, found: Mapping[str, Found], settings: Settings, *, batch: int) -> Work:
    """What the settings ask of the machine."""
    usual = usual_work(model)
    steps, guidance = settings.steps or usual.steps, settings.guidance
    if model == "helios":
        way = way_there(found, settings)
        steps, guidance = way.plan.num_steps, way.guidance.scale
    return replace(
        usual,
        frame_shape=settings.frame_shape(usual=usual.frame_shape),
        schedule=settings.schedule or usual.schedule,
        steps=steps,
        batch=batch,
        passes=1 if 0 < guidance <= 1 else usual.passes,
        cache=settings.rule,
    )


def _plan(
    model: str, modules: dict[str, nn.Module], found: Mapping[str, Found], settings: Settings, card: Card
) -> Plan:
    """Of as many sessions at once as the settings say, or as fit."""
    batches = [settings.batch] if settings.batch else BATCHES
    works = [work_of(model, found, settings, batch=batch) for batch in batches]
    anatomies = (survey_modules(model, modules, work) for work in works)
    offers = smaller(model, modules, works[-1])
    plan = decide_first(anatomies, card, quantized=settings.quantize, smaller=offers)
    logger.info("%s on %s", model, describe(plan))
    return plan


def _changes(transformer: nn.Module, settings: Settings) -> list[tuple[Mapping[str, Change], float]]:
    """Of LoRA files; folders come later, when there is a packer. Raises SettingsError for a strength of a folder's."""
    if scaled := [path for path, strength in settings.loras if path.is_dir() and strength != 1]:
        raise SettingsError(f"expected no strength for a folder, whose patchify kernels learned too, got {scaled[0]}*")
    return [(read_lora(path, transformer), strength) for path, strength in settings.loras if not path.is_dir()]


def _read(
    family: Family, modules: dict[str, nn.Module], found: Mapping[str, Found], plan: Plan | None, device: torch.device
) -> None:
    at = homes(plan, device=device) if plan else dict.fromkeys(modules, device)
    fill_all(family, modules, found, at=at, precision=None if plan else EXACT)


def _finish(
    world: Any, modules: Mapping[str, Any], settings: Settings, plan: Plan | None, device: torch.device
) -> None:
    """Fuse, quantize, stream, and make quick."""
    network, compute = world.network, modules["transformer"].dtype
    for path, _ in settings.loras:
        if path.is_dir():
            fuse_lora(path, network.denoiser, learned={"packer": network.packer})
            if (path / CODEBOOK).exists() and isinstance(world, DiscreteModel):
                world.codebook = load_codebook(path / CODEBOOK, channels=world.spec.latent_shape[0])
    if settings.attention:
        _attend(modules["transformer"], settings.attention)
    rule = settings.rule
    if plan and "transformer" in plan.streamed and rule is not None and rule.watches_input:
        network.denoiser.keep_signal()
    if plan:
        settle(plan, modules, denoiser=network.denoiser, packer=network.packer, device=device, compute=compute)
    else:
        quantize(network.denoiser, settings.quantize, device=device, compute=compute)
    if settings.compile:
        for blocks in (child for child in network.denoiser.children() if isinstance(child, nn.ModuleList)):
            for block in blocks:
                block.compile()


def _attend(transformer: Any, backend: str) -> None:
    try:
        with attention_backend("native"):  # which is back afterwards: this model's backend shall not be everyone's
            transformer.set_attention_backend(backend)
    except (ImportError, RuntimeError, ValueError) as error:  # unknown, not installed, or not for this device
        raise SettingsError(
            f"expected a backend of diffusers' that works here, got attention={backend}: {error}"
        ) from error
