"""Checkpoints in the layout of the official repositories, written from modules in miniature."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from model.checkpoints.catalog import DIFFUSERS, HUNYUAN_REPO, SIGLIP_REPO, TRANSFORMERS, components
from model.checkpoints.framepack import OFFICIAL_CLASS
from tests.model.helios import tiny as tiny_helios
from tests.model.hunyuan import tiny
from tests.model.wan import tiny as tiny_wan

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]
CONFIGURED = set(tiny.TRANSFORMER) - {"image_condition_type"}  # the official class knows no such setting


def plain(root: Path, repo: str) -> Path:
    """The folder of a repository that a user copied or cloned."""
    return root / repo


def cached(root: Path, repo: str) -> Path:
    """The folder of a repository in the Hugging Face cache."""
    top = root / f"models--{repo.replace('/', '--')}"
    (top / "refs").mkdir(parents=True, exist_ok=True)
    (top / "refs" / "main").write_text("c0ffee")
    return top / "snapshots" / "c0ffee"


def write_framepack(
    root: Path,
    of: tiny.Parts,
    *,
    model: str = "framepack-f1",
    layout: Callable[[Path, str], Path] = plain,
    shards: int = 3,
    change: Change = lambda tensors: tensors,
) -> Path:
    """All repositories of `model`; `change` is done to the tensors of the transformer. Returns the transformer's."""
    folder = layout(root, components(model)["transformer"].repo)
    write_diffusers(folder, of.transformer, shards=shards, change=change, name=OFFICIAL_CLASS, settings=CONFIGURED)
    hunyuan, siglip = layout(root, HUNYUAN_REPO), layout(root, SIGLIP_REPO)
    write_diffusers(hunyuan / "vae", of.vae)
    write_transformers(hunyuan / "text_encoder", of.text_encoder, shards=2)
    write_transformers(hunyuan / "text_encoder_2", of.text_encoder_2, prefix="text_model.")
    of.tokenizer.save_pretrained(hunyuan / "tokenizer")
    of.tokenizer_2.save_pretrained(hunyuan / "tokenizer_2")
    write_transformers(siglip / "image_encoder", of.image_encoder, prefix="vision_model.")
    of.feature_extractor.save_pretrained(siglip / "feature_extractor")
    return folder


def write_wan(root: Path, *, model: str = "wan", layout: Callable[[Path, str], Path] = plain) -> Path:
    folder = layout(root, components(model)["transformer"].repo)
    write_diffusers(folder / "transformer", tiny_wan.transformer())
    write_diffusers(folder / "vae", tiny_wan.vae())
    write_transformers(folder / "text_encoder", tiny_wan.text_encoder())
    tiny_wan.tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def write_helios(root: Path) -> Path:
    folder = write_wan(root, model="helios")
    write_diffusers(folder / "transformer", tiny_helios.transformer())
    tiny_helios.scheduler().save_config(folder / "scheduler")
    return folder


def write_diffusers(
    folder: Path,
    module: nn.Module,
    *,
    shards: int = 1,
    change: Change = lambda tensors: tensors,
    name: str = "",
    settings: set[str] | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in module.config.items() if not key.startswith("_")}
    kept = {key: value for key, value in config.items() if settings is None or key in settings}
    named = {"_class_name": name or type(module).__name__, "_diffusers_version": "0.33.0.dev0"}
    (folder / "config.json").write_text(json.dumps(named | kept))
    write_shards(folder, DIFFUSERS, change(dict(module.state_dict())), shards=shards)


def write_transformers(folder: Path, module: nn.Module, *, shards: int = 1, prefix: str = "") -> None:
    """With the names that the released files have; today's classes have lost some prefixes."""
    folder.mkdir(parents=True, exist_ok=True)
    module.config.save_pretrained(folder)
    tensors = {prefix + name: tensor for name, tensor in module.state_dict().items()}
    tied = {f"{prefix}{name}" for name in getattr(module, "_tied_weights_keys", None) or ()}
    write_shards(folder, TRANSFORMERS, {k: v for k, v in tensors.items() if k not in tied}, shards=shards)


def write_shards(folder: Path, stem: str, tensors: Mapping[str, Tensor], *, shards: int) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    if shards == 1:
        save_file(tensors, folder / f"{stem}.safetensors", {"format": "pt"})
        return
    names = sorted(tensors)
    files = {f"{stem}-{i + 1:05}-of-{shards:05}.safetensors": names[i::shards] for i in range(shards)}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, own in files.items() for name in own}}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
