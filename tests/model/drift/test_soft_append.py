"""The cross-fade, and the frame counts of clips joined by it in both orders."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.drift.soft_append import OverlapError, decode_forward, decode_inverted, num_frames, soft_append


def decode(latents, *, ratio=4):
    """A stand-in VAE: the first latent gives one frame, the others `ratio`; a frame is its time in latents."""
    times = torch.tensor([float(latent) for latent in latents])
    return torch.cat([times[:1], times[1:].repeat_interleave(ratio)]).view(-1, 1)


def joined(decodings, *, ratio=4):
    """Yields (frames, latents so far) after each decoding."""
    frames, latents = None, set()
    for decoding in decodings:
        current = decode(decoding.latents, ratio=ratio)
        latents = latents | set(decoding.latents)
        if frames is None:
            frames = current
        elif decoding.side == "right":
            frames = soft_append(frames, current, overlap=decoding.overlap)
        else:
            frames = soft_append(current, frames, overlap=decoding.overlap)
        yield frames, latents


@pytest.mark.parametrize("decodings", [decode_forward, decode_inverted])
@pytest.mark.parametrize("sections", range(1, 51))
def test_frames_are_4_latents_less_3_at_every_section(decodings, sections):
    steps = list(joined(decodings(sections)))
    assert len(steps) == sections
    assert all(len(frames) == 4 * len(latents) - 3 for frames, latents in steps)
    assert len(steps[-1][0]) == 36 * sections + 1


def test_section_lengths_are_the_official_ones():
    forward, inverted = [*decode_forward(4)], [*decode_inverted(4)]
    assert [len(d.latents) for d in forward] == [10, 18, 18, 18]
    assert [len(d.latents) for d in inverted] == [9, 18, 18, 19]
    assert [d.overlap for d in forward] == [d.overlap for d in inverted] == [0, 33, 33, 33]


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 8), st.integers(1, 30), st.booleans())
def test_frames_follow_the_latents_at_any_size(sections, section, ratio, given_latents, is_inverted):
    order = decode_inverted if is_inverted else decode_forward
    *_, (frames, latents) = joined(order(sections, section=section, ratio=ratio, given=given_latents), ratio=ratio)
    assert latents == set(range(given_latents + sections * section))
    assert len(frames) == num_frames(len(latents), ratio=ratio)
    assert (frames.diff(dim=0) >= -1e-4).all()  # time runs forward through every seam
    assert (frames.diff(dim=0) <= 1 + 1e-4).all()


def test_the_fade_goes_evenly_from_history_to_current():
    faded = soft_append(torch.ones(6, 2), torch.zeros(7, 2), overlap=5)
    assert faded.shape == (8, 2)
    assert faded[:, 0].tolist() == [1, 1, 0.75, 0.5, 0.25, 0, 0, 0]


@given(st.integers(0, 4), st.integers(0, 5))
def test_only_the_overlap_of_the_history_is_read(overlap, extra):
    torch.manual_seed(0)
    history, current = torch.randn(overlap + extra, 3), torch.randn(5, 3)
    whole = soft_append(history, current, overlap=overlap)
    flat = soft_append(history[len(history) - overlap :], current, overlap=overlap)
    assert torch.equal(whole, torch.cat([history[: len(history) - overlap], flat]))


def test_too_much_overlap_is_refused():
    with pytest.raises(OverlapError, match="expected an overlap of 0 to 3 frames, got 4"):
        soft_append(torch.zeros(3, 1), torch.zeros(9, 1), overlap=4)
