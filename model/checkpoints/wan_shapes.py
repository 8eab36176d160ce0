"""The configuration of a Wan transformer by the shapes of its weights, for files that come without one."""

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Any

from ..wan.network import SHAPES
from .catalog import WAN_14B_REPO, WAN_REPO
from .fill import PREFIXES
from .places import Found, WrongWeightsError
from .wan_names import original
from .weights import WeightFiles

HEAD = 128  # of all Wans; no shape tells it
SIZES: Mapping[str, tuple[str, str]] = MappingProxyType({WAN_REPO: ("wan", "1.3b"), WAN_14B_REPO: ("wan-14b", "14b")})
FIRST = "patch_embedding.weight"  # by both names


def settings_of(found: Found, *, channels: int) -> dict[str, Any]:
    """What `WanTransformer3DModel` takes, of weights by diffusers' names or Wan's own; `channels` are of latents.

    Raises WrongWeightsError for what is no Wan, is none that makes video of text alone, or is the catalogue's other.
    """
    try:
        shapes = _shapes(found)
        settings = _settings(shapes)
        _check(settings, shapes, channels)
        _check_size(settings, found.component.repo)
    except WrongWeightsError as error:
        raise found.wrong(f"{', '.join(path.name for path in found.weights)}: {error}") from error
    return settings


def _shapes(found: Found) -> dict[str, tuple[int, ...]]:
    """By stored names without their prefix."""
    stored = WeightFiles(found.weights).stored
    prefix = next((prefix for prefix in PREFIXES if prefix + FIRST in stored), "")
    return {name.removeprefix(prefix): entry.shape for name, entry in stored.items()}


def _settings(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    def shape(own: str, dimensions: int = 2) -> tuple[int, ...]:
        found = shapes.get(own) or shapes.get(original(own), ())
        if len(found) != dimensions:
            few = ", ".join(sorted(shapes)[:3])
            raise WrongWeightsError(
                f"expected the weights of a Wan, with {original(own)} of {dimensions} dimensions, got {found or few}"
            )
        return found

    width, channels, *patch = shape(FIRST, 5)
    if width % HEAD:
        raise WrongWeightsError(f"expected a width of whole heads of {HEAD}, got {width}")
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": width // HEAD,
        "attention_head_dim": HEAD,
        "in_channels": channels,
        "out_channels": shape("proj_out.weight")[0] // prod(patch),
        "text_dim": shape("condition_embedder.text_embedder.linear_1.weight")[1],
        "freq_dim": shape("condition_embedder.time_embedder.linear_1.weight")[1],
        "ffn_dim": shape("blocks.0.ffn.net.0.proj.weight")[0],
        "num_layers": len(blocks),
    }


def _check(settings: Mapping[str, Any], shapes: Mapping[str, object], channels: int) -> None:
    image = "condition_embedder.image_embedder.ff.net.2.weight"
    got = settings["in_channels"], settings["out_channels"]
    if got != (channels, channels) or image in shapes or original(image) in shapes:
        kind = "an image encoder's projection" if got == (channels, channels) else f"{got[0]} in and {got[1]} out"
        raise WrongWeightsError(
            f"expected a Wan that makes video of text alone, with {channels} channels in and out, got one with {kind}"
        )


def _check_size(settings: Mapping[str, Any], repo: str) -> None:
    """Of a size that is in the catalogue for another name; any other is a Wan of somebody's own."""
    for other, (model, size) in SIZES.items():
        if other != repo and SHAPES[size].items() <= settings.items():
            wanted = SIZES[repo][1].upper()
            raise WrongWeightsError(
                f"expected Wan's {wanted} shape, got the {size.upper()} one: name the model {model}"
            )
