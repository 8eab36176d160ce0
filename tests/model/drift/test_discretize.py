"""The codebook: FAISS's K-means, what it replaces, what it leaves alone, and its file."""

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from model.drift.discretize import (
    Codebook,
    CodebookError,
    discretize,
    explained_variance,
    load_codebook,
    save_codebook,
    train_codebook,
)


def blobs(centres, *, per_centre=64, spread=0.01):
    """Latents (n, c, 1, 1) around known centres."""
    generator = torch.Generator().manual_seed(0)
    points = centres.repeat_interleave(per_centre, dim=0)
    return (points + spread * torch.randn(points.shape, generator=generator))[:, :, None, None]


CENTRES = torch.tensor([[0.0, 0, 5], [5, 0, 0], [0, 5, 0], [-5, -5, -5]])


def test_entries_are_the_centres_of_the_clusters():
    book = train_codebook(blobs(CENTRES), size=4, seed=3)
    distances = torch.cdist(CENTRES, book.entries)
    assert distances.min(dim=1).values.max() < 0.02
    assert sorted(distances.argmin(dim=1).tolist()) == [0, 1, 2, 3]


def test_training_is_deterministic_by_seed():
    latents = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    first, again, other = (train_codebook(latents, size=16, seed=seed).entries for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_entries_keep_more():
    latents = torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = [explained_variance(latents, train_codebook(latents, size=size)) for size in (1, 4, 16, 64)]
    assert kept == sorted(kept)
    assert kept[0] == pytest.approx(0, abs=1e-3)
    assert kept[-1] > 0.9


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_every_pixel_becomes_its_nearest_entry(size, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    book = Codebook(torch.randn(size, channels, generator=generator))
    latents = torch.randn(2, channels, 3, 2, 4, generator=generator)
    replaced = discretize(latents, book).movedim(1, -1).reshape(-1, channels).numpy()
    index = faiss.IndexFlatL2(channels)
    index.add(book.entries.numpy())
    _, nearest = index.search(np.ascontiguousarray(latents.movedim(1, -1).reshape(-1, channels).numpy()), 1)
    assert np.array_equal(replaced, book.entries.numpy()[nearest[:, 0]])


def test_discretizing_twice_changes_nothing_more():
    book = Codebook(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    once = discretize(torch.randn(1, 4, 2, 3, 3), book)
    assert torch.equal(discretize(once, book), once)


def test_padding_stays_exactly_as_it_is():
    book = Codebook(torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    latents = torch.full((2, 2, 3, 2, 2), 1.4)
    latents[0, :, 0] = 0
    latents[1, :, 2] = 9.0
    valid = torch.tensor([[True, True, True], [True, True, False]])
    replaced = discretize(latents, book, valid=valid)
    assert torch.equal(replaced[0, :, 0], torch.zeros(2, 2, 2))
    assert torch.equal(replaced[1, :, 2], latents[1, :, 2])
    changed = replaced[valid.unsqueeze(1).expand(-1, 2, -1) & (latents[..., 0, 0] != 0)]
    assert torch.equal(changed, torch.ones_like(changed))


def test_a_pixel_of_zeros_in_a_frame_is_no_padding():
    book = Codebook(torch.tensor([[1.0], [3.0]]))
    frame = torch.tensor([0.0, 2.9]).view(1, 1, 1, 1, 2)
    assert discretize(frame, book).flatten().tolist() == [1.0, 3.0]


def test_the_input_keeps_its_dtype_and_its_values():
    book = Codebook(torch.randn(4, 3))
    latents = torch.randn(1, 3, 2, 4, 4).half()
    before = latents.clone()
    assert discretize(latents, book).dtype == torch.float16
    assert torch.equal(latents, before)


def test_a_large_history_is_looked_up_in_chunks():
    book = Codebook(torch.randn(5, 2))
    latents = torch.randn(1, 2, 3, 80, 80)
    whole = discretize(latents, book)
    parts = [discretize(frame, book) for frame in latents.split(1, dim=2)]
    assert torch.equal(whole, torch.cat(parts, dim=2))


def test_file_round_trip(tmp_path):
    book = train_codebook(blobs(CENTRES), size=4)
    save_codebook(book, tmp_path / "codebook.safetensors")
    assert torch.equal(load_codebook(tmp_path / "codebook.safetensors", channels=3).entries, book.entries)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "codebook.safetensors"
    path.write_bytes(b"not a tensor file")
    with pytest.raises(CodebookError, match="expected a safetensors file"):
        load_codebook(path, channels=3)
    save_file({"weights": torch.zeros(2, 3)}, path)
    with pytest.raises(CodebookError, match="expected a file of format"):
        load_codebook(path, channels=3)
    save_codebook(Codebook(torch.zeros(2, 3)), path)
    with pytest.raises(CodebookError, match=r"expected entries of 16 channels, got \(2, 3\)"):
        load_codebook(path, channels=16)


@pytest.mark.parametrize(("size", "message"), [(0, "got 0"), (17, "from 1 to 16 entries for 16 pixels, got 17")])
def test_impossible_sizes_are_refused(size, message):
    with pytest.raises(CodebookError, match=message):
        train_codebook(torch.randn(1, 2, 4, 4), size=size)


def test_latents_that_are_not_finite_are_refused():
    with pytest.raises(CodebookError, match="finite"):
        train_codebook(torch.full((1, 2, 4, 4), float("nan")), size=2)
