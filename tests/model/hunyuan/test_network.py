"""The denoiser against diffusers' transformer on the same weights: to the bit where the operations are the same."""

import pytest
import torch

from model.hunyuan.network import Denoiser, Given, NotFramePackError, pack, packer_of
from model.packing.pack import Piece

from . import tiny

KERNELS = {"4x": (4, 8, 8), "2x": (2, 4, 4), "clean": (1, 2, 2)}
ORDERS = {
    "f1": {"clean": [0, 19], "4x": [*range(1, 17)], "2x": [17, 18], "target": [*range(20, 29)]},
    "inverted": {"clean": [0, 37], "4x": [*range(40, 56)], "2x": [38, 39], "target": [*range(28, 37)]},
    "inverted end": {"clean": [0, 10], "4x": [*range(13, 29)], "2x": [11, 12], "target": [*range(1, 10)]},
}


@pytest.fixture(scope="module")
def parts():
    return tiny.parts(num_layers=2, num_single_layers=2)


class Rows:
    """A batch of random rows, as both sides take it."""

    def __init__(self, order="f1", *, grid=(6, 10), lengths=(5,), seed=0):
        self.random = torch.Generator().manual_seed(seed)
        b, self.grid, self.places = len(lengths), grid, ORDERS[order]
        self.latents = {name: self.noise(b, 16, len(indices), *grid) for name, indices in self.places.items()}
        self.timestep = torch.linspace(950, 300, b)
        self.given = Given(
            text=self.noise(b, 8, 16) * (torch.arange(8) < torch.tensor(lengths)[:, None])[..., None],
            lengths=tuple(lengths),
            pooled=self.noise(b, 8),
            image=self.noise(b, 4, 16),
            guidance=torch.full((b,), 10_000.0),
        )

    def noise(self, *shape):
        return torch.randn(*shape, generator=self.random)

    def row(self, i):
        rows = slice(i, i + 1)
        text, lengths, *others = self.given
        latents = {name: latents[rows] for name, latents in self.latents.items()}
        return latents, self.timestep[rows], Given(text[rows], lengths[rows], *(other[rows] for other in others))

    def ours(self, denoiser, packer):
        context = self._context(packer, self.latents)
        return denoiser(self.latents["target"], timestep=self.timestep, context=context, given=self.given)

    def ours_alone(self, denoiser, packer, i):
        latents, timestep, given = self.row(i)
        context = self._context(packer, latents)
        return denoiser(latents["target"], timestep=timestep, context=context, given=given)

    def theirs(self, transformer):
        indices = {name: torch.tensor(places) for name, places in self.places.items()}
        return transformer(
            hidden_states=self.latents["target"],
            indices_latents=indices["target"],
            latents_clean=self.latents["clean"],
            indices_latents_clean=indices["clean"],
            latents_history_2x=self.latents["2x"],
            indices_latents_history_2x=indices["2x"],
            latents_history_4x=self.latents["4x"],
            indices_latents_history_4x=indices["4x"],
            timestep=self.timestep,
            guidance=self.given.guidance,
            encoder_hidden_states=self.given.text,
            encoder_attention_mask=(torch.arange(8) < torch.tensor(self.given.lengths)[:, None]).float(),
            pooled_projections=self.given.pooled,
            image_embeds=self.given.image,
        ).sample

    def _context(self, packer, latents):
        pieces = [Piece(latents[name], torch.tensor([self.places[name]]), kernel) for name, kernel in KERNELS.items()]
        return pack(packer, pieces[::-1], target=torch.tensor([self.places["target"]]))


@pytest.fixture(scope="module")
def ours(parts):
    return Denoiser(parts.transformer), packer_of(parts.transformer, kernels=KERNELS.values())


@torch.no_grad()
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("grid", [(8, 8), (6, 10), (10, 14)])
@pytest.mark.parametrize("lengths", [(8,), (5,), (8, 8), (3, 8)], ids=str)
def test_the_velocity_equals_diffusers_to_the_bit(parts, ours, order, grid, lengths):
    rows = Rows(order, grid=grid, lengths=lengths)
    theirs = rows.theirs(parts.transformer)
    assert torch.equal(rows.ours(*ours), theirs)
    assert theirs.abs().mean() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("order", ["f1", "inverted"])
def test_heads_of_the_real_shape_too(order):
    parts = tiny.parts(attention_head_dim=128, rope_axes_dim=(16, 56, 56))
    rows = Rows(order, grid=(6, 10), lengths=(5,))
    ours = Denoiser(parts.transformer), packer_of(parts.transformer, kernels=KERNELS.values())
    assert torch.equal(rows.ours(*ours), rows.theirs(parts.transformer))


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(3, 8), (8, 1), (5, 2, 4)], ids=str)
def test_rows_at_other_steps_with_prompts_of_other_lengths_equal_rows_alone(parts, ours, lengths):
    rows = Rows(lengths=lengths)
    together = rows.ours(*ours)
    torch.testing.assert_close(together, rows.theirs(parts.transformer), rtol=0, atol=2e-6)
    for i in range(len(lengths)):
        torch.testing.assert_close(together[i : i + 1], rows.ours_alone(*ours, i), rtol=0, atol=2e-6)


@torch.no_grad()
def test_what_stands_behind_a_prompt_has_no_influence(ours):
    rows = Rows(lengths=(3, 6))
    before = rows.ours(*ours)
    for row, length in enumerate(rows.given.lengths):
        rows.given.text[row, length:] = 100.0
    assert torch.equal(rows.ours(*ours), before)


@torch.no_grad()
def test_every_condition_has_an_influence(ours):
    before = Rows().ours(*ours)
    for name in ("text", "pooled", "image", "guidance"):
        rows = Rows()
        rows.given = rows.given._replace(**{name: getattr(rows.given, name) * 1.1})
        assert not torch.allclose(rows.ours(*ours), before, atol=1e-4), name


def test_the_packer_shares_the_trained_projections_and_tiles_the_others(parts):
    trained = parts.transformer.clean_x_embedder
    packer = packer_of(parts.transformer, kernels=[*KERNELS.values(), (8, 16, 16)])
    assert packer.projections["k4h8w8"] is trained.proj_4x
    assert packer.projections["k2h4w4"] is trained.proj_2x
    assert packer.projections["k1h2w2"] is trained.proj
    wide = packer.projections["k8h16w16"]
    torch.testing.assert_close(wide.weight.sum(), trained.proj.weight.sum())


@torch.no_grad()
def test_a_precise_output_stays_precise_in_a_coarse_model():
    coarse = tiny.parts().transformer.to(torch.bfloat16)
    coarse.proj_out.float()
    denoiser, packer = Denoiser(coarse), packer_of(coarse, kernels=KERNELS.values())
    rows = Rows()
    rows.latents = {name: latents.bfloat16() for name, latents in rows.latents.items()}
    rows.given = rows.given._replace(
        **{name: getattr(rows.given, name).bfloat16() for name in ("text", "pooled", "image", "guidance")}
    )
    velocity = rows.ours(denoiser, packer)
    assert velocity.dtype == torch.float32
    assert not torch.equal(velocity, velocity.bfloat16().float())


@pytest.mark.parametrize("missing", ["has_image_proj", "has_clean_x_embedder"])
def test_other_transformers_are_refused(missing):
    transformer = tiny.parts(**{missing: False}).transformer
    with pytest.raises(NotFramePackError, match="without"):
        Denoiser(transformer)
        packer_of(transformer, kernels=KERNELS.values())
