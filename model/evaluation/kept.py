"""Results of rows, each kept in a file of its own as soon as there is one, so that what was run is not run again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def place_of(folder: Path, doing: Mapping[str, Any], *, files: Sequence[Path], extent: Sequence[Any]) -> Path:
    """Where the result of doing this with these weights on so much is, or will be."""
    asked = [doing, [hashlib.sha256(path.read_bytes()).hexdigest() for path in files], *extent]
    return folder / "rows" / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}.json"


def keep(path: Path, doing: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".part")
    partial_path.write_text(json.dumps({"row": doing, "result": result}, indent=1) + "\n")
    partial_path.rename(path)


def kept(path: Path) -> dict[str, Any]:
    """The result that `keep` wrote."""
    found: dict[str, Any] = json.loads(path.read_text())["result"]
    return found
