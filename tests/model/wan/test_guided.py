"""Guidance and mixed prompts, with a denoiser that answers with what it was told."""

import pytest
import torch
from torch import nn

from model.framepack.network import Row
from model.framepack.options import OptionsError
from model.framepack.step_cache import FirstBlockCache, TeaCache
from model.packing.pack import KernelError, Packer, Piece
from model.packing.rope import Rope
from model.wan.guided import Guidance, GuidedNetwork, check_cache

KERNELS = {(1, 2, 2)}
TEXTS = {"cat": [1.0, 0.0], "rain": [0.0, 2.0], "ugly": [3.0, 3.0]}


class Denoiser(nn.Module):
    """Its velocity is its text, one number for each channel."""

    def __init__(self):
        super().__init__()
        self.texts, self.caches = [], []

    def forward(self, noisy, *, timestep, context, text, caches):
        self.texts.append(text[:, 0].tolist())
        self.caches.append(caches)
        assert timestep.tolist() == [500.0] * len(noisy)
        assert len(context.tokens) == len(noisy)
        return text.view(len(noisy), 2, 1, 1, 1).expand_as(noisy)


def network_of(**guidance):
    torch.manual_seed(0)
    packer = Packer(nn.Conv3d(2, 8, (1, 2, 2), (1, 2, 2)), kernels=KERNELS, rope=Rope((4, 2, 2)))
    return GuidedNetwork(
        Denoiser(),
        packer,
        lambda prompt: torch.tensor([TEXTS[prompt]]),
        kernels=KERNELS,
        guidance=Guidance(negative="ugly", **guidance),
        device=torch.device("cpu"),
    )


def velocity(network, *mixes, passes=0):
    piece = Piece(torch.ones(1, 2, 1, 4, 4), torch.zeros(1, 1), (1, 2, 2))
    context = network.pack([piece], target=torch.tensor([[1]]))
    noisy, sigma = torch.zeros(1, 2, 1, 4, 4), torch.tensor(0.5)
    rows = [
        Row(noisy, sigma, context, network.condition(mix, None), tuple(f"{mix[0][0]} {i}" for i in range(passes)))
        for mix in mixes
    ]
    return network.velocity(rows)[:, :, 0, 0, 0]


def test_without_guidance_there_is_one_pass():
    network = network_of(scale=1.0)
    assert velocity(network, (("cat", 1.0),), (("rain", 1.0),)).tolist() == [[1, 0], [0, 2]]
    assert len(network.denoiser.texts) == 1


def test_prompts_mix_by_their_shares():
    [mixed] = velocity(network_of(scale=1.0), (("cat", 0.25), ("rain", 0.75)))
    assert mixed.tolist() == [0.25, 1.5]


def test_guidance_leads_away_from_the_negative_prompt():
    network = network_of(scale=2.0)
    assert velocity(network, (("cat", 1.0),), (("rain", 1.0),)).tolist() == [[-1, -3], [-3, 1]]
    assert network.denoiser.texts == [[[1, 0], [0, 2]], [[3, 3], [3, 3]]]


def test_each_pass_has_caches_of_its_own():
    for scale, passes in ((1.0, 1), (2.0, 2)):
        network = network_of(scale=scale)
        assert network.num_passes == passes
        velocity(network, (("cat", 1.0),), (("rain", 1.0),), passes=passes)
        assert network.denoiser.caches == [(f"cat {i}", f"rain {i}") for i in range(passes)]
    velocity(network, (("cat", 1.0),))
    assert network.denoiser.caches[-2:] == [(), ()]


def test_a_cache_that_was_fitted_to_another_model_is_refused():
    with pytest.raises(OptionsError, match="expected cache=first-block"):
        check_cache(TeaCache())
    check_cache(FirstBlockCache())
    check_cache(None)


def test_projected_guidance_leads_away_from_what_both_share():
    [guided] = velocity(network_of(scale=2.0, is_projected=True), (("cat", 1.0),))
    shared = torch.tensor([0.5, 0.5])  # of (1, 0) along (3, 3)
    torch.testing.assert_close(guided, shared + 2 * (torch.tensor([1.0, 0.0]) - shared))


def test_a_context_is_moved_before_another_target():
    network = network_of(scale=1.0)
    piece = Piece(torch.ones(1, 2, 1, 4, 4), torch.zeros(1, 1), (1, 2, 2))
    context = network.pack([piece], target=torch.tensor([[1]]))
    assert context.layout == (4, 8)
    assert network.retarget(context, target=torch.tensor([[1]]), grid=(2, 2)).layout == (4, 5)


def test_other_kernels_are_refused():
    piece = Piece(torch.ones(1, 2, 2, 4, 4), torch.zeros(1, 2), (2, 4, 4))
    with pytest.raises(KernelError, match=r"expected kernels of \[\(1, 2, 2\)\], got \[\(2, 4, 4\)\]"):
        network_of().pack([piece], target=torch.tensor([[1]]))
