"""Sections joined as they are shown: continuous, the same after coming back, and diffusers' own at the start."""

import numpy as np
import pytest
import torch
from PIL import Image

from model.framepack.pictures import LatentFormat, Pictures, Reel, to_uint8
from model.hunyuan.framepack import latent_format
from server.world import Opening, World, sample
from tests.model.hunyuan import tiny

SECTION, RATIO = 3, 4


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


@pytest.fixture(scope="module")
def pictures(parts):
    return Pictures(parts.vae, latent_format(parts.vae))


@pytest.fixture
def sections():
    """A start and four sections (C, t, h, w), of which each goes on from the one before."""
    random = torch.Generator().manual_seed(0)
    film = torch.randn(16, 1 + 4 * SECTION, 6, 10, generator=random).cumsum(1)
    return list((film / film.std()).split([1, *[SECTION] * 4], dim=1))


def shown(pictures, sections):
    reel = Reel(sections[0])
    return [pictures.extend(reel, section) for section in sections[1:]], reel


def test_a_section_is_whole_frames(pictures, sections):
    frames, reel = shown(pictures, sections)
    assert {tuple(part.shape) for part in frames} == {(SECTION * RATIO, 3, 48, 80)}
    assert torch.equal(reel.latents, sections[-1])


def test_the_first_section_is_the_decoder_s(pictures, sections):
    frames, _ = shown(pictures, sections)
    assert torch.equal(frames[0], pictures.decode(torch.cat(sections[:2], dim=1))[1:])


def test_joins_are_as_smooth_as_one_decoding(pictures, sections):
    """From the last frame shown to the next one is the step that a decoding of both has; it ends as decoded."""
    frames, _ = shown(pictures, sections)
    for i in range(1, len(frames)):
        both = pictures.decode(torch.cat(sections[i : i + 2], dim=1))
        step = both[-SECTION * RATIO] - both[-SECTION * RATIO - 1]
        torch.testing.assert_close(frames[i][0] - frames[i - 1][-1], step, rtol=0, atol=1e-5)
        assert not torch.allclose(both[-SECTION * RATIO - 1], frames[i - 1][-1], atol=1e-3)
        assert torch.equal(frames[i][-RATIO + 1 :], both[-RATIO + 1 :])


@pytest.mark.parametrize("whole", [1, 2, 3])
def test_going_on_after_a_rewind_shows_the_same(pictures, sections, whole):
    frames, _ = shown(pictures, sections)
    reel = pictures.rewind(torch.cat(sections[: 1 + whole], dim=1), section=SECTION)
    assert torch.equal(pictures.extend(reel, sections[1 + whole]), frames[whole])


def test_images_and_videos_go_through_the_vae_as_diffusers_scales_them(parts, pictures):
    video = np.stack([tiny.image(seed=i) for i in range(1 + RATIO)])
    pixels = torch.from_numpy(video).permute(3, 0, 1, 2)[None] / 255 * 2 - 1
    with torch.no_grad():
        expected = parts.vae.encode(pixels).latent_dist.mode()[0] * parts.vae.config.scaling_factor
    torch.testing.assert_close(pictures.encode_video(video), expected.transpose(0, 1), rtol=0, atol=1e-6)
    apart = pictures.encode(video)
    assert apart.shape == (1 + RATIO, 16, 6, 10)
    assert torch.equal(apart[2:3], pictures.encode_video(video[2:3]))


def test_shift_and_scale_are_taken_back(parts, pictures):
    shift, scale = torch.linspace(-1, 1, 16).view(-1, 1, 1, 1), torch.linspace(0.5, 2, 16).view(-1, 1, 1, 1)
    other = Pictures(parts.vae, LatentFormat(16, 8, 4, scale=scale, shift=shift))
    frame = tiny.image()[None]
    normal = pictures.encode(frame)[0][:, None] / parts.vae.config.scaling_factor
    torch.testing.assert_close(other.encode(frame)[0][:, None], (normal - shift) * scale, rtol=0, atol=1e-5)
    decoded = pictures.decode(pictures.encode(frame).transpose(0, 1))
    torch.testing.assert_close(other.decode(other.encode(frame).transpose(0, 1)), decoded, rtol=0, atol=1e-5)


def test_pixels_are_rounded_and_never_wrap():
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).expand(1, 3, 1, 5)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_the_first_section_equals_the_pipeline_s_video(parts):
    model = tiny.framepack_of(parts)
    image = tiny.image()
    state = model.open(image=image, prompt="a cat", seed=0)
    noise = model._noise(0, 1)
    video = tiny.oracle(parts, noises=[noise])(
        image=Image.fromarray(image),
        prompt="a cat",
        height=48,
        width=80,
        num_frames=RATIO * (SECTION - 1) + 1,
        latent_window_size=SECTION,
        num_inference_steps=2,
        sigmas=model._sigmas[:-1].tolist(),
        guidance_scale=10.0,
        sampling_type="vanilla",
        output_type="np",
        callback_on_step_end=tiny.round_last,
    ).frames[0]
    history = World(model, Opening(image, "a cat", 0), first_frame=0, capacity=8)
    section = sample(history, np.zeros((SECTION * RATIO, len(model.spec.controls.axes)), np.float32))
    [frames] = model.decode([state], [section])
    np.testing.assert_array_equal(frames, (video[1:] * 255).round().astype(np.uint8))
