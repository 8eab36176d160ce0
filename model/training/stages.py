"""The stages that make `rooms`, in the order of `STAGES`; each resumes where it was stopped.

Everything lives in one folder: `<stage>/checkpoint.pt`, logs and samples, and `latents/`. A stage reads the
EMA networks of the stages before it, and encodes the episodes that are not in `latents/` yet.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.camera import Camera
from ..rooms.depth import Depth, Reach
from ..rooms.dit import QUICK as QUICK_DIT
from ..rooms.dit import DiT, DiTConfig
from ..rooms.vae import QUICK, VAE, VAEConfig
from ..rooms.weights import SHIPPED, Networks, load_weights, save_weights
from .depth import train_depth, train_reach
from .dit import DiTTraining, train_dit
from .dit_distill import DiTDistilling, distill_dit
from .latents import Latents, encode_episodes, load_latents
from .loop import Run
from .paint import Learning, Painting, train_painter
from .paint_distill import Distilling, Painters, distill_painter
from .paint_match import Distilled, Match, Matching, match_painter
from .polish import Contest, Critic, Polishing, polish
from .teachers import Teachers
from .vae import VAETraining, train_vae
from .vae_distill import VAEDistilling, distill_vae

Network = TypeVar("Network", bound=nn.Module)
NUM_STARTS = 64
EARLY = 0.1  # share of the painter's steps after which it is kept as an early one


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

    def has(self, stage: str) -> bool:
        return self.checkpoint(stage).exists()

    def weights(self, stage: str) -> dict[str, Tensor]:
        """The EMA weights of `stage`; raises StageError if that has not run."""
        if not self.has(stage):
            raise StageError(f"expected {self.checkpoint(stage)}; run `rewander train {stage}` first")
        found: dict[str, Tensor] = torch.load(self.checkpoint(stage), map_location="cpu", weights_only=True)["ema"]
        return found

    def trained(self, stage: str, network: Network) -> Network:
        """`network` with the EMA weights of `stage`; raises StageError if that has not run."""
        network.load_state_dict(self.weights(stage))
        return network.eval().to(self.device)

    def dit(self) -> DiT:
        return self.trained("dit", DiT(self._dit_config()))

    def polished(self) -> DiT:
        return self.trained("polish", Contest(DiT(self._dit_config()), Critic())).dit

    def _dit_config(self) -> DiTConfig:
        """Of the transformer that is polished: what `start` put there is a distilled one."""
        is_long = any(name.startswith(f"blocks.{QUICK_DIT.depth}.") for name in self.weights("dit"))
        return DiTConfig() if is_long else QUICK_DIT

    def checkpoint(self, stage: str) -> Path:
        return self.folder / stage / "checkpoint.pt"

    def latents(self) -> Latents:
        """The encoded episodes; what is missing is encoded now."""
        for _ in encode_episodes(self.trained("vae-distill", VAE(QUICK)), self.files(), self.folder / "latents"):
            pass
        return load_latents(self.folder / "latents")


def fastest_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def stage_vae(shop: Workshop, *, steps: int, seed: int) -> None:
    train_vae(shop.files(), shop.run("vae", steps), VAETraining(), device=shop.device, seed=seed)


def stage_vae_distill(shop: Workshop, *, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    teacher, run = shop.trained("vae", VAE(VAEConfig())), shop.run("vae-distill", steps)
    distill_vae(shop.files(), VAE(QUICK), teacher, run, VAEDistilling(), seed=seed)


def stage_depth(shop: Workshop, *, steps: int, seed: int) -> None:
    train_depth(shop.latents(), shop.run("depth", steps), device=shop.device, seed=seed)


def stage_reach(shop: Workshop, *, steps: int, seed: int) -> None:
    train_reach(shop.latents(), shop.run("reach", steps), camera=Camera(), device=shop.device, seed=seed)


def stage_dit(shop: Workshop, *, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = DiT(DiTConfig()).to(shop.device)
    train_dit(shop.latents(), model, _teachers(shop), shop.run("dit", steps), DiTTraining(), seed=seed)


def stage_polish(shop: Workshop, *, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    model, run = shop.dit().train(), shop.run("polish", steps)
    polish(shop.latents(), model, _teachers(shop), run, Polishing(), seed=seed)


def stage_dit_distill(shop: Workshop, *, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    dits = Distilled(DiT(QUICK_DIT).to(shop.device), shop.polished())
    distill_dit(shop.latents(), dits, _teachers(shop), shop.run("dit-distill", steps), DiTDistilling(), seed=seed)


def stage_painter(shop: Workshop, *, steps: int, seed: int) -> None:
    """Begins from the transformer, as many blocks as it has, before its polishing, which taught it to ignore noise.

    An early painter, which its distilling needs, is trained first and gone on from; it paints again some of what the
    later one is shown.
    """
    known = shop.weights("dit")
    model, painting = _painter().to(shop.device), Painting(is_compiled=_can_compile())
    model.load_state_dict({name: known.get(name, value) for name, value in model.state_dict().items()})
    data, teachers, run = shop.latents(), _teachers(shop), shop.run("painter-early", max(1, round(EARLY * steps)))
    early = train_painter(data, Learning(model), teachers, run, painting, seed=seed)
    model.load_state_dict(early.state_dict())
    train_painter(data, Learning(model, early), teachers, shop.run("painter", steps), painting, seed=seed)


def stage_painter_distill(shop: Workshop, *, steps: int, seed: int) -> None:
    student, teacher = (shop.trained("painter", _painter()) for _ in range(2))
    painters = Painters(student.train(), teacher, shop.trained("painter-early", _painter()))
    distilling = Distilling()
    distilling = replace(distilling, painting=replace(distilling.painting, is_compiled=_can_compile()))
    run = shop.run("painter-distill", steps)
    distill_painter(shop.latents(), painters, _teachers(shop), run, distilling, seed=seed)


def stage_painter_match(shop: Workshop, *, steps: int, seed: int) -> None:
    student, matching = shop.trained("painter-distill", _painter()).train(), Matching()
    painters = Distilled(student, shop.trained("painter", _painter()))
    matching = replace(matching, painting=replace(matching.painting, is_compiled=_can_compile()))
    run = replace(shop.run("painter-match", steps), ema=0.99)  # most of its steps are not the student's
    match_painter(shop.latents(), painters, _teachers(shop), run, matching, seed=seed)


def _painter() -> DiT:
    return DiT(DiTConfig(), kernels={})


def _can_compile() -> bool:
    return shutil.which("g++") is not None


def _teachers(shop: Workshop) -> Teachers:
    return Teachers(shop.trained("vae-distill", VAE(QUICK)), shop.trained("depth", Depth()))


STAGES: dict[str, tuple[Callable[..., None], int]] = {  # and their usual number of steps
    "vae": (stage_vae, 3_000),
    "vae-distill": (stage_vae_distill, 5_500),
    "depth": (stage_depth, 8_000),
    "reach": (stage_reach, 6_000),
    "dit": (stage_dit, 50_000),
    "polish": (stage_polish, 10_000),
    "dit-distill": (stage_dit_distill, 2_400),
    "painter": (stage_painter, 10_000),
    "painter-distill": (stage_painter_distill, 700),
    "painter-match": (stage_painter_match, 800),
}


def start(shop: Workshop, weights: Path = SHIPPED) -> None:
    """Begin every stage but `vae`, `polish` and `dit-distill` from `weights` instead of from nothing.

    So they can be taught other episodes: `polish` goes on from the distilled transformer.
    Raises StageError where the folder has been trained in already.
    """
    networks, _ = load_weights(weights)
    painter = networks.painter
    by_stage = networks._asdict() | {"painter-early": painter, "painter-distill": painter}
    by_stage["painter-match"] = Match(painter, painter)
    by_stage["vae-distill"] = by_stage.pop("vae")
    for name, network in by_stage.items():
        path = shop.checkpoint(name)
        if path.exists():
            raise StageError(f"expected a new folder to begin from {weights}, but {path} is there")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"ema": network.state_dict()}, path)


def export(shop: Workshop, folder: Path) -> None:
    """Write what `rooms` is loaded from: the EMA networks and frames to start worlds from.

    The transformer is the distilled one; where that stage has not run, the polished one.
    """
    networks = Networks(
        shop.trained("vae-distill", VAE(QUICK)),
        shop.trained("depth", Depth()),
        shop.trained("reach", Reach()),
        shop.trained("dit-distill", DiT(QUICK_DIT)) if shop.has("dit-distill") else shop.polished(),
        shop.trained("painter-match", Match(_painter(), _painter())).student,
    )
    save_weights(folder, networks, open_views(shop.latents()))


def open_views(data: Latents, *, candidates: int = 400, seed: int = 1) -> torch.Tensor:
    """Frames (NUM_STARTS, C + 16, h, w) that look far, as a session keeps them: a world should not begin at a wall."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(data.latents), size=candidates), rng.integers(data.latents.shape[1], size=candidates)
    latents, depths = (torch.from_numpy(x[chosen].astype(np.float32)) for x in (data.latents, data.depths))
    middle = depths.chunk(4, 1)[1:3]
    nearness = torch.cat(middle, 1).flatten(1).quantile(0.6, 1)
    return latents[nearness.argsort()[:NUM_STARTS]]
