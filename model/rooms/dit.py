"""The diffusion transformer of `rooms`: one target frame over a packed, cacheable context.

Legend: B targets, N context groups, n tokens of a group, D width, H heads, d head size.

A context group is what one patchify kernel makes of one latent (or of k latents): it attends only to
itself and is modulated as clean, so its features depend on nothing else. They are computed once, kept
while the latent is in the history, and shared by all targets of a training sequence. Keys, values and
queries carry the phases of their rays and poses relative to the target's camera, so that attention
matches directions in the world; values are turned back by the query's phases, which tells the target
by how much a token is displaced (as in GTA, arXiv 2310.10375).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..packing.schedule import Kernel
from .camera import Camera, rays
from .layout import TAIL

# Kernels of the context that the weights have, by their kind (see `layout`); (t, h, w) in latents.
KERNELS: dict[str, Kernel] = {
    "start": (1, 2, 2), "s1": (1, 2, 2), "s2": (1, 4, 4), "k4": (4, 8, 8), "k2": (2, 4, 4), "k1": (1, 2, 2)
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DiTConfig:
    latent_channels: int = 16
    latent_size: int = 16
    width: int = 256
    depth: int = 8
    context_depth: int = 3  # blocks that refine context tokens; later blocks only project them
    head_size: int = 64
    num_controls: int = 3
    camera: Camera = field(default_factory=Camera)


QUICK = DiTConfig(depth=4, context_depth=1)  # shipped: distilled from one like the default


class Phases(NamedTuple):
    """Unit (or shorter, where pooled) complex numbers by which the channels of a head turn: (..., n, d) each.

    Channels i and i + d/2 are one number's real and imaginary part; the first half holds the conjugates.
    """

    cos: Tensor
    sin: Tensor


class Target(NamedTuple):
    """Frames being denoised."""

    noisy: Tensor  # (B, C, h, w) at noise level `sigma`
    sigma: Tensor  # (B,) in (0, 1]
    controls: Tensor  # (B, A)
    base: Tensor  # (B, C, h, w), and the next two: see `views.Preview`
    recalled: Tensor  # (B, C, h, w)
    shares: Tensor  # (B, 2, h, w)


class KV(NamedTuple):
    """Keys and values of context tokens for each block: (depth, N, n, D), or (depth, B, m, H, d) with phases."""

    keys: Tensor
    values: Tensor


# Angular frequencies of the phase pairs: azimuth and elevation per radian (whole numbers: periodic),
# position per metre, age per octave of frames.
AZIMUTH = (1, 2, 3, 4, 6, 8, 11, 16, 22, 32)
ELEVATION = (1, 2, 3, 4, 6, 10, 16, 24)
POSITION = (0.4, 0.8, 1.6, 3.2, 6.4)
AGE = (0.5, 1.0, 2.0, 4.0)


def pose_angles(relative: Tensor, age: Tensor) -> Tensor:
    """Phase angles (..., d) of frames at `relative` (..., 3) poses (ahead, left, turned) and `age` (...) frames."""
    ahead, left, turned = relative.unbind(-1)
    parts = [
        turned[..., None] * relative.new_tensor(AZIMUTH),
        torch.zeros_like(turned[..., None]).expand(*turned.shape, len(ELEVATION)),
        ahead[..., None] * relative.new_tensor(POSITION),
        left[..., None] * relative.new_tensor(POSITION),
        (age.clamp(min=0) + 1).log2()[..., None] * relative.new_tensor(AGE),
    ]
    return _with_conjugates(torch.cat(parts, -1))


def ray_phases(camera: Camera, size: int, kernel: tuple[int, int, int]) -> Phases:
    """Phases of a picture's tokens, pooled over the base tokens under the kernel (paper section 3.1): (n, d)."""
    direction = rays(camera, size // 2)
    rest = torch.zeros(*direction.shape[:2], len(POSITION) * 2 + len(AGE))
    azimuth, elevation = (direction[..., i, None] * torch.tensor(x) for i, x in enumerate((AZIMUTH, ELEVATION)))
    angles = _with_conjugates(torch.cat([azimuth, elevation, rest], -1)).permute(2, 0, 1)
    pool = (kernel[1] // 2, kernel[2] // 2)
    return Phases(*(F.avg_pool2d(part, pool).flatten(1).T for part in (angles.cos(), angles.sin())))


def _with_conjugates(angles: Tensor) -> Tensor:
    return torch.cat([-angles, angles], -1)


def product(one: Phases, other: Phases) -> Phases:
    """Complex product, number by number."""
    return Phases(one.cos * other.cos - one.sin * other.sin, one.cos * other.sin + one.sin * other.cos)


def for_heads(phases: Phases, dtype: torch.dtype) -> Phases:
    """Phases (..., n, d) as `rotate` takes them: (..., n, 1, d), in the type of what they turn."""
    return Phases(*(part[..., None, :].to(dtype) for part in phases))


def rotate(x: Tensor, phases: Phases, *, back: bool = False) -> Tensor:
    """Multiply pairs (x_i, x_{i+d/2}) of (..., n, H, d) by phases (..., n, 1, d), with `back` by their conjugates."""
    return torch.addcmul(x * phases.cos, x.roll(x.shape[-1] // 2, -1), phases.sin, value=-1 if back else 1)


def patchify(latents: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """Latents (..., t, C, h, w) of one group to tokens (..., n, C*t*ph*pw)."""
    *lead, t, c, h, w = latents.shape
    _, ph, pw = kernel
    x = latents.reshape(-1, t, c, h // ph, ph, w // pw, pw).permute(0, 3, 5, 2, 1, 4, 6)
    return x.reshape(*lead, (h // ph) * (w // pw), c * t * ph * pw)


def unpatchify(tokens: Tensor, channels: int, size: int, patch: int) -> Tensor:
    """Tokens (B, n, C*patch*patch) to a latent (B, C, size, size)."""
    n = size // patch
    x = tokens.reshape(-1, n, n, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(-1, channels, size, size)


def tiled(base: Tensor, channels: int, kernel: tuple[int, int, int]) -> Tensor:
    """A kernel's projection that averages, then projects as `base` (D, C*2*2) does (FramePack's initialisation)."""
    t, h, w = kernel
    weight = base.view(-1, channels, 1, 2, 2).repeat_interleave(h // 2, 3).repeat_interleave(w // 2, 4)
    return (weight.repeat_interleave(t, 2) / (t * (h // 2) * (w // 2))).flatten(1)


class Block(nn.Module):
    def __init__(self, width: int, head_size: int) -> None:
        super().__init__()
        self.head_size = head_size
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.modulation = nn.Parameter(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 1.0])[:, None].repeat(1, width))
        for layer in (self.out, self.down):
            nn.init.zeros_(layer.weight)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.head_size)

    def forward(
        self, x: Tensor, modulation: Tensor, phases: Phases, *, context: KV | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, n, D) under `modulation` (6, B or 1, 1, D) with `phases` (n, 1, d) or (B, n, 1, d).

        `context` holds this block's rotated keys and values (B, m, H, d); `bias` is added to the logits.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        h = torch.addcmul(shift1, norm(x), scale1)
        query = rotate(norm(self.heads(self.query(h))), phases)
        keys, values = rotate(self.heads(self.key_of(h)), phases), rotate(self.heads(self.value(h)), phases)
        if context is not None:
            keys, values = torch.cat([context.keys, keys], 1), torch.cat([context.values, values], 1)
        attended = attend(query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), bias).transpose(1, 2)
        x = torch.addcmul(x, gate1, self.out(rotate(attended, phases, back=True).flatten(2)))
        h = torch.addcmul(shift2, norm(x), scale2)
        return torch.addcmul(x, gate2, self.down(F.relu(self.up(h)).square()))

    def key_of(self, h: Tensor) -> Tensor:
        return norm(self.heads(self.key(h))).flatten(-2)

    def context_kv(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of context tokens (N, n, D), before phases."""
        h = torch.addcmul(modulation[0], norm(x), modulation[1])
        return self.key_of(h), self.value(h)


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Attention over (B, H, n, d); on a CPU as two products, twice as fast as torch's kernel in bfloat16."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, keys, values, bias)
    with torch.autocast("cpu", enabled=False):  # the softmax stays in the products' type
        logits = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        weights: Tensor = (logits if bias is None else logits + bias).softmax(-1)
        return weights @ values


def norm(x: Tensor) -> Tensor:
    normed: Tensor = F.rms_norm(x, x.shape[-1:])
    return normed


class DiT(nn.Module):
    """Predicts the clean latent of a target frame from its noisy one and the packed context."""

    def __init__(self, config: DiTConfig, kernels: Mapping[str, Kernel] = KERNELS) -> None:
        """`kernels` of the context; without any it is shown none."""
        super().__init__()
        self.config = config
        width, channels = config.width, config.latent_channels
        self.blocks = nn.ModuleList(Block(width, config.head_size) for _ in range(config.depth))
        base = nn.Linear(channels * 4, width)
        self.patchify = nn.ModuleDict()
        for name, kernel in kernels.items():
            self.patchify[name] = nn.Linear(channels * math.prod(kernel), width)
            self.patchify[name].weight = nn.Parameter(tiled(base.weight.detach(), channels, kernel))
        self.embed = nn.Linear((3 * channels + 2) * 4, width)  # noisy latent and preview
        self.embed_noise = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_controls = nn.Sequential(nn.Linear(config.num_controls, width), nn.SiLU(), nn.Linear(width, width))
        modulate = nn.Linear(width, 6 * width)
        self.condition = nn.Sequential(nn.SiLU(), modulate)
        self.unembed = nn.Linear(width, channels * 4)
        nn.init.zeros_(self.unembed.weight)
        nn.init.zeros_(modulate.weight)
        self.kernels: dict[str, Kernel] = {}
        for name, kernel in {**kernels, "k1": KERNELS["k1"]}.items():  # a target's tokens are those of k1
            self._register(name, kernel)

    def add_kernels(self, kernels: Mapping[str, Kernel]) -> list[str]:
        """Have weights for `kernels` too, those that are missing tiled from the base ones; returns which were missing.

        A start's kernels come from the start's base, recalled ones from `s1`, all others from `k1`; a tail takes
        the weights of the kernel that it is named after.
        """
        missing = [name for name in kernels if name not in self.patchify and not name.startswith(TAIL)]
        for name in missing:
            base = self.patchify["start" if name.startswith("start") else "s1" if name.startswith("s") else "k1"]
            assert isinstance(base, nn.Linear)
            weight = tiled(base.weight.detach(), self.config.latent_channels, kernels[name])
            layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
            layer.load_state_dict({"weight": weight, "bias": base.bias.detach()})
            self.patchify[name] = layer
        for name in kernels.keys() - self.kernels.keys():
            self._register(name, kernels[name])
        return missing

    def _register(self, name: str, kernel: Kernel) -> None:
        self.kernels[name] = kernel
        phases = ray_phases(self.config.camera, self.config.latent_size, kernel)
        if name.startswith(TAIL):
            phases = Phases(*(part.mean(0, keepdim=True) for part in phases))
        device = self.unembed.weight.device
        self.register_buffer(f"{name}_cos", phases.cos.to(device), persistent=False)
        self.register_buffer(f"{name}_sin", phases.sin.to(device), persistent=False)

    def pixels(self, kind: str) -> Phases:
        return Phases(getattr(self, f"{kind}_cos"), getattr(self, f"{kind}_sin"))

    def group_phases(self, kind: str, relative: Tensor, age: Tensor) -> Phases:
        """Phases (..., n, d), pooled over t, of groups of latents at `relative` poses (..., t, 3) and ages (..., t)."""
        angles = pose_angles(relative, age).to(self.unembed.weight.device)
        frames = Phases(angles.cos().mean(-2, keepdim=True), angles.sin().mean(-2, keepdim=True))
        return product(frames, self.pixels(kind))

    def context_tokens(self, kind: str, latents: Tensor) -> Tensor:
        """Patchify groups of one kind: latents (N, t, C, h, w) to tokens (N, n, D). A tail is one token: its mean."""
        kernel = self.kernels[kind]
        if kind.startswith(TAIL):
            t, h, w = kernel
            latents = latents.mean((1, 3, 4), keepdim=True).expand(-1, t, -1, h, w)
        return self.patchify[kind.removeprefix(TAIL)](patchify(latents, kernel))  # type: ignore[no-any-return]

    def context_kv(self, x: Tensor, phases: Phases, bias: Tensor | None = None) -> KV:
        """Keys and values (depth, N, n, D) of context tokens (N, n, D) with the phases (n, d) of their rays.

        Groups of several kinds may share one row if `bias` (n, n) keeps them from seeing each other.
        """
        modulations = self._modulations(torch.zeros(1, device=x.device), None)
        phases = for_heads(phases, x.dtype)
        keys, values = [], []
        for i, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=True)):
            assert isinstance(block, Block)
            key, value = block.context_kv(x, modulation)
            keys.append(key)
            values.append(value)
            if i < self.config.context_depth:
                x = block(x, modulation, phases, bias=bias)
        return KV(torch.stack(keys), torch.stack(values))

    def rotate_context(self, context: KV, phases: Phases) -> KV:
        """Give keys and values (depth, B, n, D) the phases (B, n, d) of their target's camera."""
        phases = for_heads(phases, context.keys.dtype)
        return KV(*(rotate(x.unflatten(-1, (-1, self.config.head_size)), phases) for x in context))

    def forward(self, target: Target, context: KV | None = None, bias: Tensor | None = None) -> Tensor:
        """Clean latents (B, C, h, w) of the target, which sees itself alone if there is no context.

        `context` (depth, B, m, H, d) carries the phases of the target's camera; `bias` (B, 1, 1, m + n) is
        -inf where a slot is empty.
        """
        shown = torch.cat([target.noisy, target.base, target.recalled, target.shares], 1)
        x = self.embed(patchify(shown[:, None], (1, 2, 2)))
        phases = for_heads(self.pixels("k1"), x.dtype)
        modulations = self._modulations(target.sigma, target.controls)
        for i, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=True)):
            own = None if context is None else KV(context.keys[i], context.values[i])
            x = block(x, modulation, phases, context=own, bias=bias)
        residual = unpatchify(self.unembed(norm(x)), self.config.latent_channels, self.config.latent_size, 2)
        return target.base + residual

    def _modulations(self, sigma: Tensor, controls: Tensor | None) -> Sequence[Tensor]:
        """Shifts, scales and gates of each block, (6, B, 1, D)."""
        frequencies = torch.exp(torch.linspace(0, math.log(100.0), 32, device=sigma.device))
        angles = sigma[:, None] * frequencies
        condition = self.embed_noise(torch.cat([angles.cos(), angles.sin()], -1).to(self.unembed.weight.dtype))
        if controls is not None:
            condition = condition + self.embed_controls(controls)
        shared = self.condition(condition).unflatten(-1, (6, -1)).transpose(0, 1)
        own = torch.stack([block.get_parameter("modulation") for block in self.blocks])
        modulations: Tensor = (own[:, :, None] + shared)[..., None, :]
        modulations[:, 1::3] += 1  # scales are learned as what differs from one
        return modulations.unbind()
