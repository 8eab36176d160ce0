"""From files in the official layout to models that play, as `rewander play --model` makes them."""

import logging
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from PIL import Image
from safetensors.torch import save_file

from model.checkpoints.catalog import components
from model.checkpoints.load import find, load
from model.checkpoints.places import MissingWeightsError, Shelf, WrongWeightsError
from model.checkpoints.wan_names import original
from model.framepack.options import OptionsError
from model.framepack.step_cache import FirstBlockCache
from model.large import create
from model.large.assemble import assemble, work_of
from model.large.settings import Settings, SettingsError, parse_settings
from model.placement.cards import GB, Card
from model.placement.plan import DoesNotFitError
from model.world_model import History
from tests.model.checkpoints import official
from tests.model.hunyuan import tiny
from tests.model.wan import tiny as tiny_wan

SMALL = {"width": "80", "height": "48", "schedule": "f1k1f16k4f2k2f1k1_g3", "steps": "2", "solver": "euler"}
STREAMING = 1_000_060_000  # bytes in which tiny models are streamed, and not kept
HELIOS = {"width": "80", "height": "48", "schedule": "td_f1k1f16k4f2k2f1k1_g3", "steps": "2"}


def section(model) -> np.ndarray:
    """The frames of a first section."""
    state = model.open(image=tiny.image(), prompt="a cat walks", seed=3)
    slots, spec = model.spec.num_recent, model.spec
    latents = np.zeros((1 + slots, *spec.latent_shape), np.float16)
    latents[0] = latents[-1] = state.start.latents[0]
    valid = np.array([True, *[False] * (slots - 1), True])
    history = History(latents, np.zeros(1 + slots, np.int64), np.zeros((1 + slots, 3), np.float32), valid)
    controls = np.zeros((spec.section_latents * spec.frames_per_latent, len(spec.controls.axes)), np.float32)
    jobs = model.begin([state], [controls], [history])
    while jobs[0].steps_left:
        model.advance(jobs)
    return model.decode([state], model.finish(jobs))[0]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    official.write_framepack(root, tiny.parts())
    official.write_framepack(root, tiny.parts(), model="framepack-i2v")
    official.write_wan(root)
    official.write_helios(root)
    return root


@pytest.mark.parametrize("name", ["framepack_f1", "framepack_i2v", "wan"])
def test_a_created_model_plays(shelf: Path, name: str) -> None:
    model = getattr(create, name)(weights=str(shelf), device="cpu", **SMALL)
    assert model.spec.name == name.replace("_", "-")
    frames = section(model)
    assert frames.shape == (12, 48, 80, 3) and frames.std() > 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, about diffusers
def test_helios_plays_by_the_scheduler_of_its_checkpoint(shelf: Path) -> None:
    model = create.helios(weights=str(shelf), device="cpu", **HELIOS)
    assert model.spec.name == "helios" and model.spec.num_steps == 2
    assert section(model).std() > 1
    with pytest.raises(SettingsError, match="expected no solver, recalled for helios"):
        create.helios(weights=str(shelf), device="cpu", solver="euler", recalled="1", **HELIOS)


def test_it_plays_what_the_modules_play_that_were_written(shelf: Path) -> None:
    created = create.framepack_f1(weights=str(shelf), device="cpu", **SMALL)
    np.testing.assert_array_equal(section(created), section(tiny.framepack_of(tiny.parts())))


def settings(shelf: Path, **others: object) -> Settings:
    return parse_settings(SMALL | {"weights": str(shelf), "device": "cpu"} | others)


def test_a_plan_is_logged_and_carried_out(shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The card is a fiction; the precision of its networks is real."""
    caplog.set_level(logging.INFO)
    planned = assemble("framepack-f1", settings(shelf), card=Card("a card", 8 * GB, 1e12, 1e9))
    assert "framepack-f1 on a card: 8.0 GB free" in caplog.text and "peak 1.0 GB on the card" in caplog.text
    assert planned.network.denoiser.patchify.proj.weight.dtype == torch.bfloat16
    assert planned.spec.max_batch == 2
    exact = section(tiny.framepack_of(tiny.parts())).astype(int)
    assert 0 < np.abs(section(planned) - exact).mean() < 16


@pytest.mark.parametrize(("name", "cache"), [("framepack-f1", "teacache"), ("wan", "first-block")])
def test_a_step_cache_plays_with_weights_that_are_streamed(shelf: Path, name: str, cache: str) -> None:
    """As it does where they stay; the plan counts what it keeps."""
    asked = settings(shelf, cache=cache, threshold=0.3, steps=4)
    roomy, tight = (assemble(name, asked, card=Card("a card", size, 1e12, 1e9)) for size in (8 * GB, STREAMING))
    hooks = [hasattr(block, "_diffusers_hook") for model in (roomy, tight) for block in blocks_of(model)[:1]]
    assert hooks == [False, True]
    np.testing.assert_array_equal(*(section(model) for model in (roomy, tight)))


def blocks_of(model) -> torch.nn.ModuleList:
    return next(child for child in model.network.denoiser.children() if isinstance(child, torch.nn.ModuleList))


def test_a_plan_is_told_and_a_small_card_refused_before_weights_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    official.write_framepack(tmp_path, tiny.parts())
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(b"nobody reads this")
    caplog.set_level(logging.INFO)
    with pytest.raises(DoesNotFitError, match="free memory on a card, got 0.0 GB"):
        assemble("framepack-f1", settings(tmp_path), card=Card("a card", 10**6, 1e12, 1e9))
    with pytest.raises(WrongWeightsError, match="expected safetensors"):
        assemble("framepack-f1", settings(tmp_path), card=Card("a card", 8 * GB, 1e12, 1e9))
    assert "in the machine's memory" in caplog.text and "s for a frame" in caplog.text


def test_one_file_stands_for_the_repositorys(shelf: Path, tmp_path: Path) -> None:
    """Also of eight bits; a configuration beside it counts, since these are no released ones."""
    folder = find(Shelf((shelf,)), "framepack-f1")["transformer"].folder
    shutil.copy(folder / "config.json", tmp_path)
    weights = tiny.parts(seed=5).transformer.state_dict()
    coarse = {name: w.to(torch.float8_e4m3fn) if w.ndim > 1 else w for name, w in weights.items()}
    frames = [section(assemble("framepack-f1", settings(shelf)))]
    for name, tensors in {"fine": weights, "coarse": coarse}.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / f"{name}.safetensors")
        asked = settings(shelf, transformer=f"{tmp_path}/{name}.safetensors")
        frames.append(section(assemble("framepack-f1", asked)))
    stored, fine, eight = (made.astype(int) for made in frames)
    assert 0 < np.abs(eight - fine).mean() < np.abs(fine - stored).mean()


def wan_weights(*, dtype: torch.dtype, is_scaled: bool = False) -> dict[str, torch.Tensor]:
    """Of a Wan with heads of the usual size, without which shapes do not tell what it is."""
    scale = torch.tensor(0.5 if is_scaled else 1.0)
    weights = {}
    for name, weight in tiny_wan.transformer(attention_head_dim=128).state_dict().items():
        is_coarse = name.endswith("weight") and weight.ndim == 2
        weights[name] = (weight / scale).to(dtype) if is_coarse else weight
        if is_coarse and is_scaled:
            weights[f"{name.removesuffix('weight')}scale_weight"] = scale.clone()
    return weights


@pytest.mark.parametrize(
    ("prefix", "dtype", "is_scaled"),
    [
        ("", torch.float32, False),
        ("model.diffusion_model.", torch.bfloat16, False),
        ("diffusion_model.", torch.float8_e4m3fn, False),
        ("model.diffusion_model.", torch.float8_e4m3fn, True),
    ],
)
def test_one_file_of_wan_by_its_own_names_needs_no_configuration(
    shelf: Path, tmp_path: Path, prefix: str, dtype: torch.dtype, is_scaled: bool
) -> None:
    """It shows the very frames of the same weights in diffusers' layout."""
    weights = wan_weights(dtype=dtype, is_scaled=is_scaled)
    official.write_wan(tmp_path)
    layout = tmp_path / "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/transformer"
    official.write_diffusers(layout, tiny_wan.transformer(attention_head_dim=128), change=lambda _: weights)
    named = {prefix + original(name): weight.contiguous() for name, weight in weights.items()}
    (tmp_path / "alone").mkdir()
    save_file(named, tmp_path / "alone/wan.safetensors")
    asked = ({"weights": str(tmp_path)}, {"transformer": f"{tmp_path}/alone/wan.safetensors"})
    expected, got = (section(assemble("wan", settings(shelf, **one))) for one in asked)
    np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(got, section(assemble("wan", settings(shelf))))


def test_wans_own_repository_in_parts_plays(shelf: Path, tmp_path: Path) -> None:
    """With an index, and a configuration that is none of diffusers'."""
    weights = {original(name): weight for name, weight in wan_weights(dtype=torch.float32).items()}
    official.write_shards(tmp_path, "diffusion_pytorch_model", weights, shards=3)
    (tmp_path / "config.json").write_text('{"_class_name": "WanModel", "dim": 256}')
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    assert section(assemble("wan", settings(shelf, transformer=str(index)))).std() > 1
    (tmp_path / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="no file .*00002-of-00003.*hf download Wan-AI/Wan2.1-T2V-1.3B"):
        assemble("wan", settings(shelf, transformer=str(index)))


@pytest.mark.parametrize("model", ["wan", "framepack-f1", "helios"])
def test_one_file_of_something_else_is_refused(shelf: Path, tmp_path: Path, model: str) -> None:
    """Without a configuration beside it."""
    save_file({"conv.weight": torch.zeros(3, 3)}, tmp_path / "else.safetensors")
    repository = components(model)["transformer"].repo
    with pytest.raises(WrongWeightsError, match=f"else.safetensors.*hf download {repository}"):
        load(Shelf((shelf,)), model, device=torch.device("cpu"), transformer=tmp_path / "else.safetensors")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about torch
def test_blocks_are_compiled_if_that_is_asked_for(shelf: Path) -> None:
    """Not run: that takes a minute, and is the benchmark's."""
    for compiles in (False, True):
        model = assemble("framepack-f1", settings(shelf, compile=compiles))
        lists = [child for child in model.network.denoiser.children() if isinstance(child, torch.nn.ModuleList)]
        assert [block._compiled_call_impl is not None for blocks in lists for block in blocks] == [compiles] * 2


def test_adapters_change_what_is_seen_by_their_strength(shelf: Path, tmp_path: Path) -> None:
    network = tiny.parts().transformer
    base = "lora_unet_single_blocks_0_linear2"
    linear = network.single_transformer_blocks[0].proj_out
    torch.manual_seed(0)
    up, down = torch.randn(linear.out_features, 4), torch.randn(4, linear.in_features)
    save_file({f"{base}.lora_up.weight": up, f"{base}.lora_down.weight": down}, tmp_path / "a.safetensors")
    plain = section(assemble("framepack-f1", settings(shelf))).astype(int)
    off, half, full = (
        np.abs(section(assemble("framepack-f1", settings(shelf, lora=f"{tmp_path}/a.safetensors*{s}"))) - plain).mean()
        for s in (0, 0.1, 1)
    )
    assert off == 0 < half < full


WAN_MODULES = {"self_attn.q": "attn1.to_q", "cross_attn.o": "attn2.to_out.0", "ffn.0": "ffn.net.0.proj"}
WAN_DIALECTS = {
    "kohya": ("lora_unet_blocks_1_{}", "lora_up", "lora_down"),
    "original": ("diffusion_model.blocks.1.{}", "lora_B", "lora_A"),
    "bare": ("blocks.1.{}", "lora_up", "lora_down"),
}


def test_adapters_of_wan_are_the_same_by_its_own_names(shelf: Path, tmp_path: Path) -> None:
    """The very frames; half of each change is in `alpha`, and by diffusers' names in the weights."""
    torch.manual_seed(0)
    files: dict[str, dict[str, torch.Tensor]] = {name: {} for name in ("diffusers", *WAN_DIALECTS)}
    for name, own in WAN_MODULES.items():
        linear = tiny_wan.transformer().blocks[1].get_submodule(own)
        up, down = torch.randn(linear.out_features, 4), torch.randn(4, linear.in_features)
        base = f"transformer.blocks.1.{own}"
        files["diffusers"] |= {f"{base}.lora_B.weight": up / 2, f"{base}.lora_A.weight": down}
        for dialect, (template, up_name, down_name) in WAN_DIALECTS.items():
            base = template.format(name.replace(".", "_") if dialect == "kohya" else name)
            files[dialect] |= {f"{base}.{up_name}.weight": up, f"{base}.{down_name}.weight": down}
            files[dialect] |= {f"{base}.alpha": torch.tensor(2.0)}
    frames = [section(assemble("wan", settings(shelf)))]
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        frames.append(section(assemble("wan", settings(shelf, lora=f"{tmp_path}/{name}.safetensors"))))
    plain, expected, *others = frames
    assert not np.array_equal(plain, expected)
    assert all(np.array_equal(other, expected) for other in others)


def test_keys_say_what_the_operators_file_has_them_say(shelf: Path, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.json"
    phrases.write_text('[{"name": "climb", "keys": {"KeyU": 1}, "forward": "It rises.", "backward": "It sinks."}]')
    for create_one, asked in ((create.framepack_f1, SMALL), (create.wan, SMALL), (create.helios, HELIOS)):
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of numpy, about diffusers
            model = create_one(weights=str(shelf), device="cpu", camera=str(phrases), **asked)
        [axis] = model.spec.controls.axes
        assert (axis.name, axis.keys) == ("climb", (("KeyU", 1),))
        assert model.camera.direct("a cat", np.ones((12, 1), np.float32)) == "a cat It rises."
    for wrong, said in (
        (tmp_path / "none.json", "`rewander models --show phrases` prints"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(SettingsError, match=said):
            assemble("framepack-f1", settings(shelf, camera=str(wrong)))


def test_a_strength_is_for_files_only(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no strength for a folder"):
        assemble("framepack-f1", settings(shelf, lora=f"{tmp_path}*0.5"))


def test_quantized_weights_play_without_a_gpu_too(shelf: Path) -> None:
    plain, coarse = (section(assemble("framepack-f1", settings(shelf, quantize=kind))) for kind in ("", "fp8"))
    assert 0 < np.abs(coarse.astype(int) - plain).mean() < 8


def test_images_of_a_folder_are_where_worlds_begin(shelf: Path, tmp_path: Path) -> None:
    for i in range(2):
        Image.fromarray(tiny.image((60, 60), seed=i)).save(tmp_path / f"{i}.png")
    model = assemble("framepack-f1", settings(shelf, starts=str(tmp_path)))
    first, second, third = (model.open(image=None, prompt="", seed=seed).start.latents for seed in (0, 1, 2))
    assert not np.array_equal(first, second) and np.array_equal(first, third)
    with pytest.raises(SettingsError, match="found none"):
        assemble("framepack-f1", settings(shelf, starts=str(shelf)))


def test_what_is_asked_of_the_machine_follows_from_the_settings(shelf: Path) -> None:
    work = work_of("wan", {}, settings(shelf, cache="first-block"), batch=3)
    assert (work.frame_shape, work.steps, work.batch, work.passes) == ((48, 80), 2, 3, 2)
    assert work.cache == FirstBlockCache()
    assert work_of("wan", {}, settings(shelf, guidance=1), batch=1).passes == 1
    assert work_of("framepack-f1", {}, Settings(), batch=1).frame_shape == (480, 832)
    work = work_of("helios", find(Shelf((shelf,)), "helios"), Settings(), batch=1)
    assert (work.frame_shape, work.steps, work.passes) == ((384, 640), 50, 2)


def test_attention_is_chosen_for_one_model_alone(shelf: Path) -> None:
    before, _ = _AttentionBackendRegistry.get_active_backend()
    assemble("framepack-f1", settings(shelf, attention="_native_math"))
    assert _AttentionBackendRegistry.get_active_backend()[0] == before


def test_what_cannot_be_is_said(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=re.escape(str(tmp_path))):
        create.wan(weights=str(tmp_path))
    with pytest.raises(OptionsError, match="multiples of 16"):
        create.framepack_f1(weights=str(shelf), device="cpu", **SMALL | {"width": "81"})
    with pytest.raises(SettingsError, match="got attention=none: .* must be one of the following"):
        assemble("framepack-f1", settings(shelf, attention="none"))
    (tmp_path / "start.png").write_bytes(b"holiday")
    with pytest.raises(SettingsError, match=r"cannot identify image file .*start.png"):
        assemble("framepack-f1", settings(shelf, starts=str(tmp_path)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_here_is_refused(shelf: Path) -> None:
    with pytest.raises(SettingsError, match="no CUDA device here"):
        assemble("framepack-f1", settings(shelf, device="cuda"))
