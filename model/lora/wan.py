"""What of Wan learns to be FramePack: adapters in its blocks and before its output, and the patchify kernels."""

from ..packing.schedule import Schedule
from ..wan.framepack import Parts, network_of
from ..wan.guided import Guidance
from .framepack import Student

LINEARS = r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))|proj_out"


def wan_student(parts: Parts, schedule: Schedule, *, recomputes: bool = True) -> Student:
    """`recomputes` the blocks' activations instead of keeping them: a third more time, a tenth of the memory.

    Raises NotTextToVideoError.
    """
    kernels = {segment.kernel for segment in schedule.past + schedule.future}
    network = network_of(parts, kernels=kernels, guidance=Guidance(1.0), recomputes=recomputes)
    return Student(network, network.denoiser, LINEARS, {"packer": network.packer})
