"""How many threads torch computes with on a CPU, for those who do not import it."""

import torch


def num_threads() -> int:
    return torch.get_num_threads()


def use_threads(count: int) -> None:
    """Of this process, from now on."""
    torch.set_num_threads(count)
