"""Holds for every test: one thread for the native libraries, one hypothesis profile, skips for what is not there."""

import faulthandler
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

WEIGHTS = Path(__file__).parent.parent / "model" / "rooms" / "weights"
UNHURRIED = ("fuzz", "soak")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-messages", type=int, default=20_000, help="of each test marked fuzz that counts messages")
    parser.addoption("--soak-minutes", type=float, default=60.0, help="of the test marked soak")


def pytest_configure() -> None:
    """Before any test module imports torch, faiss or numpy: they read these once."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    hypothesis.settings.register_profile("rewander", deadline=None, derandomize="CI" in os.environ)
    hypothesis.settings.load_profile("rewander")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, (is_met, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_met():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that go on for as long as they are told are not taken for hung."""
    if any(item.get_closest_marker(marker) for marker in UNHURRIED):
        faulthandler.cancel_dump_traceback_later()


def _can_make_networks() -> bool:
    return os.geteuid() == 0 and shutil.which("ip") is not None and os.path.exists("/dev/net/tun")


def _has_gstreamer() -> bool:
    look = "import gi; gi.require_version('GstWebRTC', '1.0'); from gi.repository import Gst as g; g.init(None); "
    look += "assert g.ElementFactory.find('webrtcbin') and g.ElementFactory.find('avdec_h264')"
    if not os.path.exists("/usr/bin/python3"):
        return False
    return subprocess.run(["/usr/bin/python3", "-c", look], capture_output=True, check=False).returncode == 0


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


NEEDS: dict[str, tuple[Callable[[], object], str]] = {
    "gpu": (lambda: shutil.which("nvidia-smi"), "needs an NVIDIA GPU"),
    "browser": (_chromium, "needs Chromium: apt-get install chromium"),
    "players": (_has_gstreamer, "needs GStreamer's webrtcbin: see PLAYERS in the Makefile"),
    "network": (_can_make_networks, "needs root, iproute2 and /dev/net/tun"),
    "weights": (lambda: any(WEIGHTS.glob("*.safetensors")), "needs the shipped weights"),
}


@pytest.fixture(scope="session")
def fuzz_messages(request: pytest.FixtureRequest) -> int:
    """How many messages a test marked `fuzz` sends."""
    count: int = request.config.getoption("fuzz_messages")
    return count


@pytest.fixture(scope="session")
def soak_minutes(request: pytest.FixtureRequest) -> float:
    """How long a test marked `soak` goes on."""
    minutes: float = request.config.getoption("soak_minutes")
    return minutes


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that the tests marked `browser` drive."""
    path = _chromium()
    assert path is not None, "tests that take this fixture carry the marker `browser`"
    return path
