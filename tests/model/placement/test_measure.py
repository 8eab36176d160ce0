"""Costs without data, against what is known by hand and what really runs."""

import torch
from torch import nn
from torch.nn import functional as F

from model.placement.measure import META, measure, retype


def test_products_and_what_lives_are_counted_by_hand() -> None:
    linear = nn.Linear(64, 256, bias=False, device=META)

    def run() -> torch.Tensor:
        x = torch.empty(10, 64, device=META)
        hidden = torch.relu(linear(x))  # the input and both outputs live at once
        return hidden[:, :3] * 2

    cost = measure(run, weights=linear.parameters())
    assert cost.flops == 2 * 10 * 64 * 256
    assert cost.peak_bytes == 4 * (10 * 64 + 2 * 10 * 256)


def test_views_and_what_is_done_in_place_take_nothing() -> None:
    def run() -> None:
        x = torch.empty(1000, device=META)
        x.view(10, 100).transpose(0, 1)[3:].add_(1)

    assert measure(run, weights=()).peak_bytes == 4000


def test_what_is_released_is_not_counted_twice() -> None:
    def run() -> None:
        for _ in range(50):
            torch.empty(1000, device=META)

    assert measure(run, weights=()).peak_bytes == 4000


def test_attention_keeps_no_matrix() -> None:
    def run() -> torch.Tensor:
        q, k, v = (torch.empty(2, 4, n, 16, device=META) for n in (100, 300, 300))
        return F.scaled_dot_product_attention(q, key=k, value=v)

    cost = measure(run, weights=())
    assert cost.flops == 2 * 2 * 4 * 100 * 300 * 16 * 2
    assert cost.peak_bytes == 4 * 2 * 4 * 16 * (100 + 300 + 300 + 100)


def test_only_what_is_named_stays_precise() -> None:
    module = nn.Sequential(nn.Linear(2, 2, device=META), nn.Linear(2, 2, device=META))
    retype(module, torch.bfloat16, precise=r"1\..*")
    assert [p.dtype for p in module.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2
