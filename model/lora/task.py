"""Train low-rank adapters of a network's Linear modules, through peft, with the loop that trains everything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from ..training.loop import Run, fit
from .files import save_lora

ADAPTER = "default"  # peft's own name for the only one


@dataclass(frozen=True, slots=True, eq=False)
class LoraTask:
    """What a model says of itself to be fine-tuned; nothing else is asked of it."""

    network: nn.Module  # its own weights stay as they are
    linears: str  # a regular expression: Linear modules of `network` whose whole name it matches are adapted
    loss: Callable[[int], dict[str, Tensor]]  # at a step, which alone decides what is drawn; `loss` is minimised
    learned: Mapping[str, nn.Module] = field(default_factory=dict)  # modules that learn in full, by their saved names


@dataclass(frozen=True, slots=True)
class LoraTraining:
    """How fast and how much is learned."""

    rank: int = 16
    rate: float = 1e-4

    def __post_init__(self) -> None:
        if not (self.rank >= 1 and self.rate > 0):
            raise ValueError(f"expected a rank of at least 1 and a rate above 0, got {self}")


class Adapters(nn.Module):
    """All that learns, and nothing else: what the loop averages and keeps in its checkpoints is as small as that."""

    def __init__(self, lora: Mapping[str, nn.Parameter], learned: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.names, self.learned_names = tuple(lora), tuple(learned)
        self.weights = nn.ParameterList([*lora.values(), *learned.values()])

    def lora_state(self) -> dict[str, Tensor]:
        """By the names of peft's dialect, like `blocks.0.attn1.to_q.lora_A.weight`."""
        return dict(zip(self.names, self.weights[: len(self.names)], strict=True))

    def learned_state(self) -> dict[str, Tensor]:
        return dict(zip(self.learned_names, self.weights[len(self.names) :], strict=True))


def train_lora(task: LoraTask, run: Run, training: LoraTraining, *, seed: int = 0) -> Adapters:
    """Train to `run.steps`, from the folder's checkpoint if there is one; writes and returns the EMA adapters.

    `task.network` keeps what was learned last as adapters in its modules; `files.fuse_lora` brings the written ones
    into another network. Raises ValueError if nothing in it matches `task.linears`.
    """
    torch.manual_seed(seed)
    adapters = adapt(task, rank=training.rank)
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=training.rate, betas=(0.9, 0.99), weight_decay=0.01)
    ema = fit(run, adapters, optimizers=[optimizer], loss=lambda _adapters, step: task.loss(step))
    assert isinstance(ema, Adapters)
    save_lora(run.folder, lora=ema.lora_state(), learned=ema.learned_state())
    return ema


def adapt(task: LoraTask, *, rank: int) -> Adapters:
    """Put adapters that change nothing yet before the task's Linear modules; in float32, whatever these compute in."""
    task.network.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=task.linears)  # alpha / r = 1, as loaders assume
    inject_adapter_in_model(config, task.network, adapter_name=ADAPTER)
    lora = {name: weight for name, weight in task.network.named_parameters() if ".lora_" in name}
    learned = {f"{name}.{key}": p for name, module in task.learned.items() for key, p in module.named_parameters()}
    for weight in (*lora.values(), *learned.values()):
        weight.data = weight.data.float()
        weight.requires_grad_(True)
    return Adapters({name.replace(f".{ADAPTER}.", "."): weight for name, weight in lora.items()}, learned)
