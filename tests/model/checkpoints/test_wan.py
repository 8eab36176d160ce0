"""Wan's and Helios' layout through the real loader."""

from pathlib import Path

import pytest
import torch

from model.checkpoints.fill import EXACT
from model.checkpoints.load import load
from model.checkpoints.places import Shelf, WrongWeightsError
from model.checkpoints.wan import PRECISION
from model.framepack.options import Options
from model.wan.framepack import wan
from tests.model.helios import tiny as tiny_helios
from tests.model.wan import tiny

from . import official

CPU = torch.device("cpu")


@pytest.mark.parametrize("model", ["wan", "wan-14b"])
@pytest.mark.parametrize("layout", [official.plain, official.cached])
def test_wan_loads_to_the_bit(tmp_path: Path, model, layout) -> None:
    official.write_wan(tmp_path, model=model, layout=layout)
    loaded, written = load(Shelf((tmp_path,)), model, device=CPU, precision=EXACT), tiny.parts()
    for name, tensor in loaded.transformer.state_dict().items():
        assert torch.equal(tensor, written.transformer.state_dict()[name])
    assert torch.equal(loaded.texts("a cat &amp; rain"), written.texts("a cat & rain"))
    assert loaded.texts("a cat").abs().max() > 0.01


def test_a_coarse_wan_is_precise_where_diffusers_is_and_plays(tmp_path: Path) -> None:
    official.write_wan(tmp_path)
    loaded = load(Shelf((tmp_path,)), "wan", device=CPU, precision=PRECISION)
    types = {name: parameter.dtype for name, parameter in loaded.transformer.named_parameters()}
    assert types["blocks.0.scale_shift_table"] == types["blocks.0.norm2.weight"] == torch.float32
    assert types["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert types["blocks.0.attn1.to_q.weight"] == types["blocks.0.attn1.norm_q.weight"] == torch.bfloat16
    options = Options(frame_shape=(48, 80), schedule="f1k1f16k4f2k2f1k1_g3", steps=2, solver="euler")
    state = wan(loaded, options).open(image=tiny.image(), prompt="rain")
    assert state.start.latents.shape == (1, 16, 6, 10) and abs(state.start.latents).max() > 0.1


def test_helios_loads_to_the_bit(tmp_path: Path) -> None:
    official.write_helios(tmp_path)
    loaded, written = load(Shelf((tmp_path,)), "helios", device=CPU, precision=EXACT), tiny_helios.parts()
    state = written.transformer.state_dict()
    assert set(loaded.transformer.state_dict()) == set(state)
    for name, tensor in loaded.transformer.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_one_is_not_taken_for_the_other(tmp_path: Path) -> None:
    official.write_wan(tmp_path, model="helios")
    (tmp_path / "BestWishYsh/Helios-Base/scheduler").mkdir()
    (tmp_path / "BestWishYsh/Helios-Base/scheduler/scheduler_config.json").write_text("{}")
    with pytest.raises(WrongWeightsError, match="got a WanTransformer3DModel"):
        load(Shelf((tmp_path,)), "helios", device=CPU)
