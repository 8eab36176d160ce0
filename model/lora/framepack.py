"""Fine-tune any network of FramePack's kind on films: what it is shown at play time, it is shown here.

B moments of films, C x h x w one latent, S latents of a section.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..framepack.camera import Camera
from ..framepack.network import Network, Row
from ..framepack.slots import Slots
from ..packing.schedule import Schedule
from ..world_model import History
from .films import FilmError, Moment, controls_of, load_film, moment
from .task import LoraTask


@dataclass(frozen=True, slots=True)
class FilmTraining:
    """What is drawn for a step."""

    schedule: Schedule
    batch: int = 1
    shift: float = 3.0  # of the noise levels towards noise
    prompt: str = ""  # before the camera's phrases for what was pressed
    history_noise: float = 0.0  # up to this level on the recent past, for half of the moments: play is not clean

    def __post_init__(self) -> None:
        if not (self.batch >= 1 and self.shift > 0 and 0 <= self.history_noise < 1):
            raise ValueError(f"expected a batch, a shift above 0 and a history_noise from 0 to below 1, got {self}")


@dataclass(frozen=True, slots=True, eq=False)
class Student:
    """A network and what of it learns, as `LoraTask` has it."""

    network: Network
    denoiser: nn.Module
    linears: str
    learned: Mapping[str, nn.Module]


def film_task(
    student: Student, films: Sequence[Path], training: FilmTraining, *, camera: Camera, seed: int = 0
) -> LoraTask:
    """Flow matching (arXiv 2210.02747) on sections of `films` after packed histories of every age.

    Raises FilmError for films shorter than a start and a section, or with more controls than the camera has axes.
    """
    slots, length = Slots(training.schedule, num_recalled=0), _shortest(films, section=training.schedule.target)

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        moments = draw(films, training, rng, length=length)
        return {"loss": flow_loss(student.network, slots, moments, training, camera=camera, generator=generator)}

    return LoraTask(student.denoiser, student.linears, loss, student.learned)


def prompts_of(films: Sequence[Path], training: FilmTraining, *, camera: Camera) -> set[str]:
    """All that sections of `films` may be conditioned on; raises FilmError as `film_task` does."""
    section = training.schedule.target
    length, prompts = _shortest(films, section=section), set()
    for film in map(load_film, films):
        sections = (controls_of(film, first=first, section=section) for first in range(1, length - section + 1))
        prompts |= {_prompt(controls, training, camera) for controls in sections}
    return prompts


def draw(films: Sequence[Path], training: FilmTraining, rng: np.random.Generator, *, length: int) -> list[Moment]:
    """Moments of one age, so that their histories have one layout; `length` is the shortest film's, in latents."""
    section, recent = training.schedule.target, sum(segment.frames for segment in training.schedule.recent)
    first = int(rng.integers(1, length - section + 1))
    chosen = [load_film(films[i]) for i in rng.integers(len(films), size=training.batch)]
    return [moment(film, first=first, section=section, num_recent=recent) for film in chosen]


def flow_loss(
    network: Network,
    slots: Slots,
    moments: Sequence[Moment],
    training: FilmTraining,
    *,
    camera: Camera,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the velocity, at one noise level for each moment."""
    clean = torch.from_numpy(np.stack([m.target for m in moments])).float().transpose(1, 2)
    noise, even = torch.randn(clean.shape, generator=generator), torch.rand(len(moments), generator=generator)
    sigma = training.shift * even / (1 + (training.shift - 1) * even)
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = ((1 - level) * clean + level * noise).to(network.device)
    rows = []
    for i, m in enumerate(moments):
        prompt = _prompt(m.controls, training, camera)
        history = _worn(m.history, training.history_noise, generator)
        context = network.pack(slots.pieces(history), target=torch.tensor([slots.target]))
        given = network.condition(((prompt, 1.0),), network.look(m.start))
        rows.append(Row(noisy[i : i + 1], sigma[i], context, given))
    return (network.velocity(rows) - (noise - clean).to(network.device)).square().mean()


def _worn(history: History, limit: float, generator: torch.Generator) -> History:
    """A history whose recent latents are between clean and noise (as in Diffusion Forcing, arXiv 2407.01392)."""
    level = limit * max(0.0, 2 * torch.rand(1, generator=generator).item() - 1)
    noise = torch.randn(history.latents[1:].shape, generator=generator).numpy()
    worn = (1 - level) * history.latents[1:] + level * noise
    return replace(history, latents=np.concatenate([history.latents[:1], worn.astype(np.float16)]))


def _shortest(films: Sequence[Path], *, section: int) -> int:
    """Latents of the shortest film."""
    length = min((len(load_film(path).latents) for path in films), default=0)
    if length <= section:
        raise FilmError(f"expected films of more than {section} latents, got some of {length}")
    return length


def _prompt(controls: np.ndarray, training: FilmTraining, camera: Camera) -> str:
    """Episodes that lack the camera's last axes never moved them."""
    missing = len(camera.axes) - controls.shape[1]
    if missing < 0:
        raise FilmError(f"expected at most the camera's {len(camera.axes)} axes of control, got {controls.shape[1]}")
    return camera.direct(training.prompt, np.pad(controls, ((0, 0), (0, missing))))
