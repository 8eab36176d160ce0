"""Where a repository's files are on this disk: in the Hugging Face cache, or in plain folders. Nothing is fetched."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

INDEX = ".safetensors.index.json"


class MissingWeightsError(FileNotFoundError):
    """Files that are not there; the message says which, where they were looked for, and how to fetch them."""


class WrongWeightsError(ValueError):
    """Files that are there but cannot be what they should be; the message says which, why, and how to fetch them."""


@dataclass(frozen=True, slots=True)
class Component:
    """One module of a model: a folder of a repository, with the names of its files."""

    name: str
    repo: str  # owner/name
    folder: str  # within the repository, "" is its top
    weights: str | None = None  # how the weight files begin, such as diffusion_pytorch_model; None for a tokenizer
    config: str = "config.json"

    @property
    def fetch(self) -> str:
        """The command that gets it."""
        return f"hf download {self.repo}" + (f" --include '{self.folder}/*'" if self.folder else "")


@dataclass(frozen=True, slots=True)
class Found:
    """A component's files."""

    component: Component
    folder: Path
    weights: tuple[Path, ...]

    @property
    def num_bytes(self) -> int:
        """Of the weights as they are stored."""
        return sum(path.stat().st_size for path in self.weights)

    @property
    def is_configured(self) -> bool:
        """A file that stands in for a repository's may come without a configuration."""
        return (self.folder / self.component.config).is_file()

    def wrong(self, problem: str) -> WrongWeightsError:
        """What to raise about them."""
        component = self.component
        return WrongWeightsError(
            f"{component.name} of {component.repo} in {self.folder}: {problem}. Fetch it again with: {component.fetch}"
        )


def stand_in(component: Component, path: Path) -> Found:
    """One file of weights, or the index of several, in place of a repository's; raises MissingWeightsError."""
    is_index = path.name.endswith(INDEX) and path.is_file()
    weights, missing = _shards(path) if is_index else ((path,), [] if path.is_file() else [path])
    if missing:
        names = ", ".join(map(str, missing))
        raise MissingWeightsError(
            f"{component.name}: there is no file {names}. One that fits, in parts: {component.fetch}"
        )
    return Found(component, path.parent, weights)


def hub_cache() -> Path:
    """Where Hugging Face's own programs keep what they fetch."""
    from huggingface_hub.constants import HF_HUB_CACHE  # reads the environment when it is imported

    return Path(HF_HUB_CACHE)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Folders to look in, the first first: Hugging Face caches, folders of repositories, or a repository itself."""

    roots: tuple[Path, ...]

    def find(self, component: Component) -> Found:
        """The first place that has all of it; raises MissingWeightsError."""
        looked: list[Path] = []
        incomplete: list[Path] = []
        for place in self._places(component.repo):
            folder = place / component.folder
            looked.append(folder)
            if not (folder / component.config).is_file():
                continue
            weights, missing = _weights(folder, component.weights)
            if not missing:
                return Found(component, folder, weights)
            incomplete += missing
        names = [str(path) for path in incomplete] or [f"{component.folder}/{component.config}".lstrip("/")]
        where = [str(path) for path in looked] or [str(root) for root in self.roots]
        raise MissingWeightsError(
            f"{component.name} of {component.repo}: there is no {', '.join(names)}; looked in {', '.join(where)}. "
            f"Fetch it with: {component.fetch}"
        )

    def _places(self, repo: str) -> Iterable[Path]:
        """Folders that may be `repo`'s, the best first; only those of the cache are sure to exist."""
        owner, name = repo.split("/")
        for root in self.roots:
            cached = root / f"models--{owner}--{name}"
            yield from _snapshots(cached)
            yield root / owner / name
            yield root / name
            yield root


def _snapshots(cached: Path) -> Iterable[Path]:
    """What `main` points at, then any other revision, the newest first."""
    reference = cached / "refs" / "main"
    if reference.is_file():
        yield cached / "snapshots" / reference.read_text().strip()
    if (cached / "snapshots").is_dir():
        yield from sorted((cached / "snapshots").iterdir(), key=lambda path: -path.stat().st_mtime)


def _weights(folder: Path, stem: str | None) -> tuple[tuple[Path, ...], Sequence[Path]]:
    """The weight files in `folder`, and those of them that are missing: one file, or shards by their index."""
    if stem is None:
        return (), ()
    single, index = folder / f"{stem}.safetensors", folder / (stem + INDEX)
    if single.is_file():
        return (single,), ()
    return _shards(index) if index.is_file() else ((), (single,))


def _shards(index: Path) -> tuple[tuple[Path, ...], Sequence[Path]]:
    """As `_weights`."""
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return (), (index,)
    paths = tuple(index.parent / shard for shard in shards)
    return paths, [path for path in paths if not path.is_file()]
