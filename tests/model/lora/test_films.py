"""Films of recorded episodes, and moments of them as a session would have seen them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from model.lora.films import Film, FilmError, encode_films, load_film, longest, moment
from model.training.record import FORMAT
from tests.model.wan import tiny

ACTIONS = np.arange(11)[:, None] * np.ones(3)  # of an episode: row i led to frame i


@pytest.fixture
def episodes(tmp_path):
    paths = []
    for seed in range(2):
        frames = np.stack([tiny.image((48, 48), seed=10 * seed + i) for i in range(11)])
        arrays = {
            "frames": frames,
            "controls": ACTIONS.astype(np.float32),
            "poses": np.zeros((11, 3), np.float32),
        }
        paths.append(tmp_path / f"{seed}.safetensors")
        save_file(arrays, paths[-1], {"format": FORMAT})
    return paths


def test_episodes_become_films_once(tmp_path, episodes):
    pictures, folder = tiny.wan_of(tiny.parts()).pictures, tmp_path / "films"
    encoding = encode_films(pictures, episodes, folder, shape=(32, 48))
    kept = next(encoding).stat().st_mtime_ns  # killed here
    paths = list(encode_films(pictures, episodes, folder, shape=(32, 48)))
    assert paths[0].stat().st_mtime_ns == kept
    film = load_film(paths[1])
    assert film.start.shape == (32, 48, 3)
    assert film.latents.shape == (3, 16, 4, 6)  # of the 9 first frames, which are whole latents
    assert film.latents.dtype == np.float16
    assert film.controls[:, 0].tolist() == [*range(1, 9)]
    assert not np.array_equal(film.latents, load_film(paths[0]).latents)
    assert np.abs(pictures.encode(film.start[None])[0].numpy() - film.latents[0]).max() < 1e-2
    assert {path.name for path in folder.iterdir()} == {"0.safetensors", "1.safetensors"}


def test_what_is_no_episode_is_refused(tmp_path):
    save_file({"frames": np.zeros((1, 2, 2, 3), np.uint8)}, tmp_path / "other.safetensors")
    pictures = tiny.wan_of(tiny.parts()).pictures
    with pytest.raises(ValueError, match="expected format"):
        list(encode_films(pictures, [tmp_path / "other.safetensors"], tmp_path / "films", shape=(32, 32)))
    assert not list((tmp_path / "films").iterdir())


def test_the_longest_that_is_to_be_encoded_is_known_beforehand(tmp_path, episodes):
    save_file({"frames": np.zeros((30, 2, 2, 3), np.uint8)}, tmp_path / "long.safetensors")
    films, longer = tmp_path / "films", [*episodes, tmp_path / "long.safetensors"]
    assert (longest(episodes, films), longest(longer, films)) == (11, 30)
    films.mkdir()
    (films / "long.safetensors").touch()
    assert longest(longer, films) == 11
    assert longest(longer[2:], films) == 0
    (tmp_path / "none.safetensors").write_bytes(b"holiday")
    with pytest.raises(FilmError, match="expected an episode .* in .*none.safetensors"):
        longest([tmp_path / "none.safetensors"], films)


def numbered(length=10):
    """Latent i holds i everywhere, and control row j is j."""
    latents = np.arange(length)[:, None, None, None] * np.ones((1, 2, 3, 3))
    controls = np.arange(4 * (length - 1))[:, None] * np.ones((1, 3))
    return Film(np.zeros((24, 24, 3), np.uint8), latents.astype(np.float16), controls.astype(np.float32))


def test_a_moment_is_what_a_session_shows_its_model():
    seen = moment(numbered(), first=4, section=2, num_recent=6)
    assert seen.target[:, 0, 0, 0].tolist() == [4, 5]
    assert seen.history.latents[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert seen.history.valid.tolist() == [True, False, False, True, True, True, True]
    assert seen.history.indices.tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert seen.controls[:, 0].tolist() == [*range(12, 20)]  # frames 13 to 20 are in latents 4 and 5


def test_the_first_moment_knows_only_the_start():
    seen = moment(numbered(), first=1, section=3, num_recent=4)
    assert seen.history.valid.tolist() == [True, False, False, False, True]
    assert seen.controls[:, 0].tolist() == [*range(12)]


@pytest.mark.parametrize("first", [0, 9])
def test_a_moment_outside_its_film_is_refused(first):
    with pytest.raises(FilmError, match=f"at least {first + 2} latents, got one of 10"):
        moment(numbered(), first=first, section=2, num_recent=4)
