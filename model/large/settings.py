"""What a user may say of a large model, as words like `steps=20`; every one has a default."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from ..checkpoints.places import Shelf, hub_cache
from ..framepack.step_cache import FirstBlockCache, Rule, TeaCache

KINDS = {str: "text", int: "number", float: "number", bool: "true or false"}


class SettingsError(ValueError):
    """A setting that there is not, or that cannot be so; the message says which."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty text and 0 mean the model's own default."""

    weights: Annotated[
        str, Meta(description="Folders to look in before Hugging Face's cache, separated like PATH.")
    ] = ""
    transformer: Annotated[
        str,
        Meta(description="One file of weights instead of the repository's, or an index; also fp8, or Wan's own names."),
    ] = ""
    lora: Annotated[
        str,
        Meta(description="LoRA files, or folders of `rewander train lora`, with commas: style.safetensors*0.8,mine"),
    ] = ""
    quantize: Annotated[Literal["", "fp8", "int8", "nf4"], Meta(description="Weights in fewer bits.")] = ""
    device: Annotated[Literal["", "cuda", "mps", "cpu"], Meta(description="CUDA where there is one.")] = ""
    width: Annotated[int, Meta(description="Of frames, in pixels.")] = 0
    height: Annotated[int, Meta(description="Of frames, in pixels.")] = 0
    schedule: Annotated[str, Meta(description="Of the context; see `rewander schedule`.")] = ""
    steps: Annotated[int, Meta(description="Of denoising, for a section.")] = 0
    solver: Annotated[Literal["unipc", "euler"], Meta(description="What takes the steps; not of helios.")] = "unipc"
    cache: Annotated[
        Literal["", "teacache", "first-block"],
        Meta(description="Leave out blocks at steps that change little; teacache is FramePack's only."),
    ] = ""
    threshold: Annotated[float, Meta(description="Of the cache: more leaves out more.")] = 0.0
    guidance: Annotated[float, Meta(description="How much the prompt counts; 1 halves the time of wan and helios.")] = (
        0.0
    )
    recalled: Annotated[int, Meta(description="Memories shown in the oldest slots of the history; not of helios.")] = 0
    fade: Annotated[int, Meta(description="Sections in which a new prompt takes over; 1 is at once.")] = 2
    batch: Annotated[int, Meta(description="Sessions at once; 0 is as many as fit, up to 2.")] = 0
    aside: Annotated[
        Literal["", "yes", "no"],
        Meta(description="Decode a section while the next is sampled; where a GPU has memory for both by default."),
    ] = ""
    attention: Annotated[str, Meta(description="A backend by diffusers' name, such as _native_cudnn.")] = ""
    compile: Annotated[bool, Meta(description="Blocks, by torch.compile: the first section then takes minutes.")] = (
        False
    )
    camera: Annotated[
        str, Meta(description="A file of phrases for keys; `rewander models --show phrases` prints one.")
    ] = ""
    starts: Annotated[str, Meta(description="A folder of images to begin with; not of helios.")] = ""

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


def explained() -> list[tuple[str, str, str]]:
    """Every setting: its name, what it may be, and what it means."""
    rows = []
    for field in msgspec.structs.fields(Settings):
        kind, meta = get_args(field.type)
        choices = [word for word in get_args(kind) if word]
        rows.append((field.name, " or ".join(choices) or KINDS[kind], meta.description))
    return rows
