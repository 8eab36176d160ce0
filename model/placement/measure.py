"""What a computation costs, found by running it without data: on the meta device tensors have shapes only."""

import math
import re
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run."""

    flops: float  # of matrix products, convolutions and attention; a multiplication with its addition is two
    peak_bytes: int  # of the tensors that it makes and that live at once, weights not among them


def measure(run: Callable[[], object], *, weights: Iterable[Tensor]) -> Cost:
    """The cost of `run`, which uses `weights` and makes its own inputs, all on the meta device.

    It may turn gradients on and go back; blocks that are computed twice are none it can follow.
    """
    attention, others = _Attention(), _Operations(weights)
    with torch.no_grad(), attention, others:
        run()
    return Cost(float(others.flops + attention.flops), others.peak)


def retype(module: nn.Module, dtype: torch.dtype, *, precise: str = "") -> None:
    """Give the parameters of an outlined module another type, those that `precise` matches float32.

    Its constants keep theirs.
    """
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if re.fullmatch(precise, name) else dtype)


class _Attention(TorchFunctionMode):
    """Counts attention as what fused kernels do, which keep no matrix of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self, func: Callable[..., Any], _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **given)
        query, key, value = (*args, *(given[name] for name in ("query", "key", "value")[len(args) :]))[:3]
        self.flops += 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        return _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]


class _Fused(torch.autograd.Function):
    """Attention in shapes: it keeps what goes in and what comes out, from which its gradient begins anew."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, _gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))


class _Operations(TorchDispatchMode):
    """Counts all else, and follows every storage from the operation that makes it to its release."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.peak = self._now = 0
        self._weights = [weight.untyped_storage() for weight in weights]  # held, so that no other gets their place
        self._known = {storage._cdata for storage in self._weights}

    def __torch_dispatch__(
        self, func: Any, _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
