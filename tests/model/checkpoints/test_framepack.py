"""The released layout through the real loader: what was written is what plays."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoints import load as loading
from model.checkpoints.catalog import HUNYUAN_REPO
from model.checkpoints.fill import EXACT, Precision
from model.checkpoints.framepack import PRECISION
from model.checkpoints.places import MissingWeightsError, Shelf, WrongWeightsError
from model.framepack.options import Options
from model.hunyuan.framepack import F1, Parts, framepack
from tests.model.hunyuan import tiny

from . import official

CPU = torch.device("cpu")


def load(root: Path, *, model: str = "framepack-f1", precision: Precision = EXACT, single: Path | None = None) -> Parts:
    return loading.load(Shelf((root,)), model, device=CPU, precision=precision, transformer=single)


@pytest.fixture(scope="module")
def parts() -> tiny.Parts:
    return tiny.parts(num_layers=2, num_single_layers=1)


def assert_equal_weights(loaded: torch.nn.Module, written: torch.nn.Module) -> None:
    own = written.state_dict()
    state = loaded.state_dict()
    assert set(state) == set(own)
    for name, tensor in state.items():
        assert torch.equal(tensor, own[name]), name


@pytest.mark.parametrize("model", ["framepack-f1", "framepack-i2v"])
@pytest.mark.parametrize("layout", [official.plain, official.cached])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_layout_loads_to_the_bit(tmp_path: Path, parts: tiny.Parts, model, layout, shards) -> None:
    official.write_framepack(tmp_path, parts, model=model, layout=layout, shards=shards)
    loaded = load(tmp_path, model=model)
    assert_equal_weights(loaded.transformer, parts.transformer)
    assert_equal_weights(loaded.vae, parts.vae)
    assert not loaded.transformer.training and not any(p.requires_grad for p in loaded.transformer.parameters())


def test_a_loaded_model_plays_what_the_written_one_plays(tmp_path: Path, parts: tiny.Parts) -> None:
    official.write_framepack(tmp_path, parts)
    options = Options(frame_shape=(48, 80), schedule="f1k1f16k4f2k2f1k1_g3", steps=2, solver="euler")
    loaded, written = framepack(load(tmp_path), F1, options), tiny.framepack_of(parts)
    for model in (loaded, written):
        model.state = model.open(image=tiny.image(), prompt="a cat walks", seed=3)
    assert torch.equal(loaded.state.image, written.state.image)
    ours, theirs = (model.network.condition((("a cat walks", 1.0),), model.state.image) for model in (loaded, written))
    assert torch.equal(ours.text, theirs.text) and torch.equal(ours.pooled, theirs.pooled)
    assert ours.text.abs().max() > 0.01
    np.testing.assert_array_equal(loaded.state.start.latents, written.state.start.latents)


def test_the_output_stays_precise_in_a_coarse_model(tmp_path: Path, parts: tiny.Parts) -> None:
    official.write_framepack(tmp_path, parts)
    loaded = load(tmp_path, precision=PRECISION)
    dtypes = {name: p.dtype for name, p in loaded.transformer.named_parameters()}
    precise = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert precise == {"proj_out.weight", "proj_out.bias"}
    assert set(dtypes.values()) == {torch.float32, torch.bfloat16}
    assert next(loaded.vae.parameters()).dtype == torch.float16


def to_fp8(tensors: dict[str, torch.Tensor], *, scaled: bool) -> dict[str, torch.Tensor]:
    out = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            out[name] = tensor
            continue
        scale = tensor.abs().max() / 400 if scaled else torch.ones(())
        out[name] = (tensor / scale).to(torch.float8_e4m3fn)
        if scaled:
            out[name.removesuffix("weight") + "scale_weight"] = scale
    return out


@pytest.mark.parametrize("scaled", [False, True])
def test_fp8_is_upcast(tmp_path: Path, parts: tiny.Parts, scaled: bool) -> None:
    official.write_framepack(tmp_path, parts, change=lambda tensors: to_fp8(tensors, scaled=scaled))
    own = parts.transformer.state_dict()
    for name, tensor in load(tmp_path).transformer.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, own[name], rtol=1 / 15, atol=2e-3)


def test_a_single_file_stands_in_for_a_repository(tmp_path: Path, parts: tiny.Parts) -> None:
    other = tiny.parts(seed=5, num_layers=2, num_single_layers=1)
    folder = official.write_framepack(tmp_path, parts)
    single = folder / "FramePack_bf16.safetensors"
    prefixed = {f"model.diffusion_model.{k}": v.contiguous() for k, v in other.transformer.state_dict().items()}
    save_file(prefixed, single)
    loaded = load(tmp_path, single=single)
    assert_equal_weights(loaded.transformer, other.transformer)


def test_a_missing_component_says_how_to_fetch_it(tmp_path: Path, parts: tiny.Parts) -> None:
    official.write_framepack(tmp_path, parts)
    (tmp_path / "lllyasviel" / "flux_redux_bfl" / "image_encoder" / "model.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"image_encoder.*hf download lllyasviel/flux_redux_bfl"):
        load(tmp_path)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_class_is_refused(tmp_path: Path, parts: tiny.Parts) -> None:
    change_config(official.write_framepack(tmp_path, parts), _class_name="HunyuanVideoTransformer3DModel")
    with pytest.raises(WrongWeightsError, match="got a HunyuanVideoTransformer3DModel"):
        load(tmp_path)


WRONG = {
    "a page instead of weights": ("vae/diffusion_pytorch_model.safetensors", b"<html>", "expected safetensors"),
    "no JSON": ("vae/config.json", b"{", "expected JSON in config.json"),
    "another kind of encoder": ("text_encoder_2/config.json", b'{"model_type": "bert"}', "clip_text_model, got 'bert'"),
    "no tokenizer": ("tokenizer/tokenizer.json", b"{}", "expected a tokenizer"),
}


@pytest.mark.parametrize(("name", "content", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_named_with_its_place_and_how_to_fetch_it(
    tmp_path: Path, parts: tiny.Parts, name: str, content: bytes, problem: str
) -> None:
    official.write_framepack(tmp_path, parts)
    folder = official.plain(tmp_path, HUNYUAN_REPO)
    (folder / name).write_bytes(content)
    component = name.split("/")[0]
    with pytest.raises(WrongWeightsError, match=problem) as raised:
        load(tmp_path)
    said = str(raised.value)
    assert said.startswith(f"{component} of {HUNYUAN_REPO} in {folder / component}: ")
    assert said.endswith(f"hf download {HUNYUAN_REPO} --include '{component}/*'")


def test_a_single_file_that_is_not_there_is_named(tmp_path: Path, parts: tiny.Parts) -> None:
    official.write_framepack(tmp_path, parts)
    with pytest.raises(MissingWeightsError, match=r"no file .*none.safetensors.*hf download lllyasviel/FramePack_F1"):
        load(tmp_path, single=tmp_path / "none.safetensors")


def test_unknown_settings_are_logged(tmp_path: Path, parts: tiny.Parts, caplog: pytest.LogCaptureFixture) -> None:
    change_config(official.write_framepack(tmp_path, parts), num_hands=3)
    assert_equal_weights(load(tmp_path).transformer, parts.transformer)
    assert "has no settings num_hands" in caplog.text and "_diffusers_version" not in caplog.text


def test_weights_that_do_not_fit_their_configuration_are_named(tmp_path: Path, parts: tiny.Parts) -> None:
    folder = official.write_framepack(tmp_path, parts, shards=1)
    path = folder / "diffusion_pytorch_model.safetensors"
    whole = load_file(path)
    save_file({name: tensor for name, tensor in whole.items() if name != "proj_out.bias"}, path)
    with pytest.raises(WrongWeightsError, match=r"missing: proj_out.bias; unknown: none"):
        load(tmp_path)
    save_file(whole | {"proj_out.bias": torch.zeros(3)}, path)
    with pytest.raises(WrongWeightsError, match=r"expected proj_out.bias of shape \(64,\), got \(3,\)"):
        load(tmp_path)
    change_config(folder, num_layers=3)
    save_file(whole, path)
    with pytest.raises(WrongWeightsError, match=r"missing: transformer_blocks.2.*more"):
        load(tmp_path)
