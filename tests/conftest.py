"""Holds for every test: one thread for the native libraries, one hypothesis profile, skips for what is not there."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest

WEIGHTS = Path(__file__).parent.parent / "model" / "rooms" / "weights"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def pytest_configure() -> None:
    """Before any test module imports torch, faiss or numpy: they read these once."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    hypothesis.settings.register_profile("rewander", deadline=None, derandomize="CI" in os.environ)
    hypothesis.settings.load_profile("rewander")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, reason in _unmet().items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _unmet() -> dict[str, str]:
    """Markers whose need this machine does not meet, with the reason."""
    needs = {
        "gpu": (shutil.which("nvidia-smi"), "needs an NVIDIA GPU"),
        "browser": (_chromium(), "needs Chromium: apt-get install chromium"),
        "weights": (any(WEIGHTS.glob("*.safetensors")), "needs the shipped weights"),
    }
    return {marker: reason for marker, (met, reason) in needs.items() if not met}


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that the tests marked `browser` drive."""
    path = _chromium()
    assert path is not None, "tests that take this fixture carry the marker `browser`"
    return path
