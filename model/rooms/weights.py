"""The files that `rooms` is loaded from: a configuration, five networks and the frames that worlds start from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .camera import Camera
from .depth import Depth, Reach
from .dit import DiT, DiTConfig
from .vae import VAE, VAEConfig

SHIPPED = Path(__file__).parent / "weights"


class Networks(NamedTuple):
    vae: VAE
    depth: Depth
    reach: Reach
    dit: DiT
    painter: DiT


def save_weights(folder: Path, networks: Networks, starts: Tensor) -> None:
    """Write `networks` and the latents `starts` (n, C, h, w) into `folder`, in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {name: asdict(getattr(networks, name).config) for name in ("dit", "painter", "vae")}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name, module in networks._asdict().items():
        tensors = {key: value.to("cpu", torch.bfloat16).contiguous() for key, value in module.state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors")
    save_file({"latents": starts.cpu().half().contiguous()}, folder / "starts.safetensors")


def load_weights(folder: Path = SHIPPED, *, device: str = "cpu") -> tuple[Networks, Tensor]:
    """Read networks in float32 and starts (n, C, h, w) float32.

    Raises FileNotFoundError naming the file that is missing, ValueError if they do not fit together.
    """
    for name in ("config.json", *(f"{part}.safetensors" for part in (*Networks._fields, "starts"))):
        if not (folder / name).exists():
            raise FileNotFoundError(f"expected the weights of `rooms` in {folder}, but there is no {name}")
    config = json.loads((folder / "config.json").read_text())
    dit, painter = (_dit_config(config[name]) for name in ("dit", "painter"))
    vae = VAE(VAEConfig(**config["vae"]))
    networks = Networks(vae, Depth(dit.latent_channels), Reach(), DiT(dit), DiT(painter, kernels={}))
    for name, module in networks._asdict().items():
        tensors = load_file(folder / f"{name}.safetensors")
        try:
            module.load_state_dict({key: value.float() for key, value in tensors.items()})
        except RuntimeError as error:
            raise ValueError(f"{folder / name}.safetensors does not fit config.json: {error}") from error
        module.to(device)
    return networks, load_file(folder / "starts.safetensors")["latents"].float().to(device)


def _dit_config(found: dict[str, Any]) -> DiTConfig:
    return DiTConfig(**found | {"camera": Camera(**found["camera"])})
