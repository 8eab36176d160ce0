"""What of each network learns, and what does not."""

from typing import Any

from ..hunyuan.framepack import HunyuanNetwork
from ..hunyuan.framepack import Parts as HunyuanParts
from ..packing.schedule import Kernel, Schedule
from ..wan.framepack import Parts as WanParts
from ..wan.framepack import network_of
from ..wan.guided import Guidance
from ..wan.network import packer_of
from .framepack import Student

WAN = r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))|proj_out"
HUNYUAN = (
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)|ff(_context)?\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out)"
)


def wan_student(parts: WanParts, schedule: Schedule) -> Student:
    """Adapters in Wan's blocks and before its output, and new patchify kernels: it has never seen a history.

    Raises NotTextToVideoError.
    """
    network = network_of(parts, kernels=_kernels(schedule), guidance=Guidance(1.0), recomputes=True)
    return Student(network, network.denoiser, WAN, {"packer": network.packer})


def hunyuan_student(parts: HunyuanParts, schedule: Schedule) -> Student:
    """Adapters in the blocks of FramePack's released weights, which know histories already.

    Raises NotFramePackError.
    """
    network = HunyuanNetwork(parts, kernels=_kernels(schedule), recomputes=True)
    network.packer.requires_grad_(False)
    return Student(network, network.denoiser, HUNYUAN, {})


def wan_learned(transformer: Any, schedule: Schedule) -> int:
    """Numbers that learn in full."""
    packer = packer_of(transformer, kernels=_kernels(schedule))
    return sum(weight.numel() for weight in packer.parameters())


def hunyuan_learned(_transformer: Any, _schedule: Schedule) -> int:
    return 0


def _kernels(schedule: Schedule) -> set[Kernel]:
    return {segment.kernel for segment in schedule.past + schedule.future}
