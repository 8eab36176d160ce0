import torch

from model.rooms.depth import Depth, Reach, settled, unhindered
from model.rooms.geometry import CELLS
from tests.model.rooms.small import networks


def test_depth_is_positive_and_finer_than_latents() -> None:
    depth = networks().depth(10 * torch.randn(3, 16, 16, 16))
    assert depth.shape == (3, 64, 64)
    assert (depth > 0).all()
    assert depth.std() > 0


def test_depth_starts_as_something_a_room_may_have() -> None:
    """Untrained it says about a third of 1/m everywhere: three metres."""
    torch.manual_seed(0)
    depth = Depth(width=16)(torch.randn(2, 16, 16, 16))
    assert (depth - 0.31).abs().max() < 0.2


def test_reach_never_exceeds_the_command() -> None:
    reach, controls = networks().reach, torch.randn(64, 3).clamp(-1, 1)
    moved = reach(torch.rand(64, CELLS, CELLS), controls, torch.randn(64, 5))
    assert (moved.norm(dim=1) <= controls[:, :2].norm(dim=1) + 1e-5).all()
    assert (moved - controls[:, :2]).norm(dim=1).mean() > 1e-3
    assert not reach(torch.rand(64, CELLS, CELLS), controls * torch.tensor([0.0, 0, 1]), torch.randn(64, 5)).any()


def test_a_wall_that_leaves_little_of_a_step_stops_it() -> None:
    commanded = torch.tensor([[0.6, 0.0], [0.6, 0.0], [0.0, 0.0]])
    moved = torch.tensor([[0.05, -0.1], [0.1, 0.2], [0.0, 0.0]])
    assert torch.equal(settled(moved, commanded), torch.tensor([[0.0, 0.0], [0.1, 0.2], [0.0, 0.0]]))


def test_who_stood_may_go_on() -> None:
    control = torch.tensor([[0.6, 0.1, 1.0], [0.6, 0.1, 1.0], [0.0, 0.0, 1.0]])
    went = torch.tensor([[0.3, 0.1], [0.0, 0.0], [0.0, 0.0]])
    assert torch.equal(unhindered(went, control), torch.tensor([[0.3, 0.1], [0.6, 0.1], [0.0, 0.0]]))


def test_reach_looks_at_the_map() -> None:
    torch.manual_seed(0)
    reach = Reach()
    for layer in reach.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    controls, last = torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(1, 5)
    ahead = torch.zeros(1, CELLS, CELLS)
    ahead[:, CELLS // 2 - 10, CELLS // 2 - 8 : CELLS // 2 + 8] = 1
    free = reach(torch.zeros_like(ahead), controls, last)
    assert not torch.allclose(reach(ahead, controls, last), free, atol=1e-3)
    assert not torch.allclose(reach(ahead.flip(1), controls, last), reach(ahead, controls, last), atol=1e-3)
