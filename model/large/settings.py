"""What a user may say of a large model, as words like `steps=20`; every one has a default."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from ..checkpoints.places import Shelf, hub_cache
from ..framepack.step_cache import FirstBlockCache, Rule, TeaCache


class SettingsError(ValueError):
    """A setting that there is not, or that cannot be so; the message says which."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty text and 0 mean the model's own default."""

    weights: str = ""  # folders to look in before Hugging Face's cache, separated like PATH
    transformer: str = ""  # one file of weights instead of the repository's
    lora: str = ""  # files, or folders that `rewander train lora` made, separated by commas; `style.safetensors*0.8`
    quantize: Literal["", "fp8", "int8", "nf4"] = ""
    device: Literal["", "cuda", "mps", "cpu"] = ""
    width: int = 0
    height: int = 0
    schedule: str = ""
    steps: int = 0
    solver: Literal["unipc", "euler"] = "unipc"
    cache: Literal["", "teacache", "first-block"] = ""
    threshold: float = 0.0  # of the cache
    guidance: float = 0.0
    recalled: int = 0  # slots that show memories
    fade: int = 2  # sections that a new prompt takes
    batch: int = 0  # sessions at once; as many as fit, up to 2
    attention: str = ""  # a backend by diffusers' name
    compile: bool = False  # blocks, by torch.compile: the first section then takes minutes
    camera: str = ""  # a file of phrases
    starts: str = ""  # a folder of images to begin with

    @property
    def shelf(self) -> Shelf:
        folders = [Path(folder) for folder in self.weights.split(os.pathsep) if folder]
        return Shelf((*folders, hub_cache()))

    @property
    def rule(self) -> Rule | None:
        if not self.cache:
            return None
        kind = TeaCache if self.cache == "teacache" else FirstBlockCache
        return kind(self.threshold) if self.threshold else kind()

    @property
    def loras(self) -> list[tuple[Path, float]]:
        """With their strengths; raises SettingsError."""
        found = []
        for word in filter(None, self.lora.split(",")):
            path, _, strength = word.partition("*")
            try:
                found.append((Path(path), float(strength or 1)))
            except ValueError:
                raise SettingsError(f"expected a strength like style.safetensors*0.8, got {word!r}") from None
        return found

    def frame_shape(self, *, usual: tuple[int, int]) -> tuple[int, int]:
        return self.height or usual[0], self.width or usual[1]


def parse_settings(spoken: Mapping[str, str]) -> Settings:
    """From words; raises SettingsError."""
    try:
        return msgspec.convert(dict(spoken), Settings, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(Settings.__struct_fields__)
        raise SettingsError(f"expected settings out of {known}, got {dict(spoken)}: {error}") from error
