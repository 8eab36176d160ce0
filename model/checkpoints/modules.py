"""Outlines of diffusers' and transformers' classes by a checkpoint's own config.json, and their tokenizers."""

import inspect
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PretrainedConfig

from .fill import outline
from .places import Found

logger = logging.getLogger(__name__)


def diffusers_outline(cls: type[Any], found: Found, *, also: tuple[str, ...] = ()) -> Any:
    """An outlined `cls` with the checkpoint's configuration, which may name it, or one of `also`, as its class.

    Settings that `cls` does not have are logged and left out, as diffusers does it.
    Raises WrongWeightsError for another class.
    """
    config = read_config(found)
    named = config.get("_class_name", cls.__name__)
    if named not in (cls.__name__, *also):
        raise found.wrong(f"expected a {' or '.join((cls.__name__, *also))}, got a {named}")
    known = inspect.signature(cls.__init__).parameters
    settings = {key: value for key, value in config.items() if key in known}
    if unknown := sorted(key for key in set(config) - set(settings) if not key.startswith("_")):
        logger.warning("%s has no settings %s; found in %s", cls.__name__, ", ".join(unknown), found.folder)
    return outline(lambda: cls(**settings))


def transformers_outline(cls: type[Any], config_cls: type[PretrainedConfig], found: Found) -> Any:
    """An outlined `cls`; a configuration that nests this one among others, as CLIP's and SigLIP's may, is opened."""
    config = read_config(found)
    kind = str(config_cls.model_type)
    for part in ("text_config", "vision_config"):
        if part in config and config[part].get("model_type") == kind:
            config = config[part]
    if config.get("model_type") != kind:
        raise found.wrong(f"expected a model_type {kind}, got {config.get('model_type')!r}")
    return outline(lambda: cls(config_cls.from_dict(config)))


def load_tokenizer(found: Found) -> Any:
    """Raises WrongWeightsError if transformers cannot make one of the folder."""
    try:
        return AutoTokenizer.from_pretrained(found.folder, local_files_only=True)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # whatever its parts stumble over
        raise found.wrong(f"expected a tokenizer: {error}") from error


def read_config(found: Found) -> dict[str, Any]:
    path = Path(found.folder) / found.component.config
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise found.wrong(f"expected JSON in {path.name}: {error}") from error
    if not isinstance(config, Mapping):
        raise found.wrong(f"expected a configuration in {path.name}, got {type(config).__name__}")
    return dict(config)


def precise_names(cls: type[Any]) -> str:
    """A regular expression for the parameters that diffusers keeps in float32."""
    parts = "|".join(getattr(cls, "_keep_in_fp32_modules", None) or ())
    return rf"(.*\.)?({parts})(\..*)?" if parts else ""
