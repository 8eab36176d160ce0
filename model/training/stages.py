"""The stages that make `rooms`, in order: vae, latents, motion, odometry, dit; each resumes where it was stopped.

Everything lives in one folder: `<stage>/checkpoint.pt`, logs and samples, and `latents/`. A stage reads the
EMA networks of the stages before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ..rooms.camera import Camera
from ..rooms.dit import DiT, DiTConfig
from ..rooms.motion import Motion
from ..rooms.odometry import Odometry
from ..rooms.vae import VAE, VAEConfig
from ..rooms.weights import Networks, save_weights
from .dit import DiTTraining, Latents, train_dit
from .latents import encode_episodes, load_latents
from .loop import Run
from .motion import train_motion
from .odometry import train_odometry
from .vae import VAETraining, train_vae

Network = TypeVar("Network", bound=nn.Module)
NUM_STARTS = 64
MOTION_EPISODES = 200  # their frames are kept in memory


class StageError(ValueError):
    """A stage that cannot run; says what it needs."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """A training folder and the recorded episodes that it learns from."""

    folder: Path
    episodes: Path
    device: str = "cpu"

    def files(self) -> list[Path]:
        files = sorted(self.episodes.glob("*.safetensors"))
        if not files:
            raise StageError(f"expected episodes (*.safetensors) in {self.episodes}; `rewander record` makes them")
        return files

    def run(self, stage: str, steps: int) -> Run:
        return Run(self.folder / stage, steps)

    def trained(self, stage: str, network: Network) -> Network:
        """`network` with the EMA weights of `stage`; raises StageError if that has not run."""
        path = self.folder / stage / "checkpoint.pt"
        if not path.exists():
            raise StageError(f"expected {path}; run `rewander train {stage}` first")
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["ema"])
        return network.eval().to(self.device)

    def latents(self) -> Latents:
        """The encoded episodes; what is missing is encoded now."""
        for _ in encode_episodes(self.trained("vae", VAE(VAEConfig())), self.files(), self.folder / "latents"):
            pass
        return load_latents(self.folder / "latents")


def use_threads(count: int) -> None:
    """More threads than free cores make training many times slower, not faster."""
    torch.set_num_threads(count)


def fastest_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def stage_vae(shop: Workshop, *, steps: int, seed: int) -> None:
    train_vae(shop.files(), shop.run("vae", steps), VAETraining(), device=shop.device, seed=seed)


def stage_motion(shop: Workshop, *, steps: int, seed: int) -> None:
    files = shop.files()[:MOTION_EPISODES]
    train_motion(shop.latents(), files, shop.run("motion", steps), camera=Camera(), device=shop.device, seed=seed)


def stage_odometry(shop: Workshop, *, steps: int, seed: int) -> None:
    train_odometry(shop.latents(), shop.run("odometry", steps), camera=Camera(), device=shop.device, seed=seed)


def stage_dit(shop: Workshop, *, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    vae, motion = shop.trained("vae", VAE(VAEConfig())), shop.trained("motion", Motion())
    networks = Networks(vae, motion, DiT(DiTConfig()).to(shop.device), Odometry())
    train_dit(shop.latents(), networks, shop.run("dit", steps), DiTTraining(), seed=seed)


STAGES: dict[str, tuple[Callable[..., None], int]] = {  # and their usual number of steps
    "vae": (stage_vae, 3_000),
    "motion": (stage_motion, 4_000),
    "odometry": (stage_odometry, 4_000),
    "dit": (stage_dit, 50_000),
}


def export(shop: Workshop, folder: Path) -> None:
    """Write what `rooms` is loaded from: the EMA networks and frames to start worlds from."""
    networks = Networks(
        shop.trained("vae", VAE(VAEConfig())),
        shop.trained("motion", Motion()),
        shop.trained("dit", DiT(DiTConfig())),
        shop.trained("odometry", Odometry()),
    )
    save_weights(folder, networks, open_views(networks.motion.cpu(), shop.latents()))


@torch.inference_mode()
def open_views(motion: Motion, data: Latents, *, candidates: int = 400, seed: int = 1) -> torch.Tensor:
    """Latents (NUM_STARTS, C, h, w) of frames that look far: a world should not begin at a wall."""
    rng = np.random.default_rng(seed)
    episode = rng.integers(len(data.latents), size=candidates)
    frame = rng.integers(data.latents.shape[1], size=candidates)
    latents = torch.from_numpy(np.asarray(data.latents[episode, frame], np.float32))
    features = motion.features(Camera(), latents, torch.zeros(candidates))
    middle = motion.inverse_depth(features, torch.zeros(candidates, 2)).chunk(4, 1)[1:3]
    nearness = torch.cat(middle, 1).flatten(1).quantile(0.6, 1)
    return latents[nearness.argsort()[:NUM_STARTS]]
