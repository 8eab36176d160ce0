"""A large model on the page, from its files: a tiny checkpoint in the official layout, and the command a user types."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.client_demo.visit import change, enter, picture, until
from tests.model.checkpoints import official
from tests.model.hunyuan import tiny

pytestmark = pytest.mark.browser

SETTINGS = "device=cpu width=80 height=48 schedule=td_f1k1f16k4f2k2f1k1_g3 steps=2"
STOP_SECONDS = 15.0
WRITERS: dict[str, Callable[[Path], object]] = {
    "framepack-f1": lambda shelf: official.write_framepack(shelf, tiny.parts(), layout=official.cached),
    "wan": lambda shelf: official.write_wan(shelf, layout=official.cached),
    "helios": official.write_helios,
}


@pytest.fixture(scope="module", params=["framepack-f1", "wan", pytest.param("helios", marks=pytest.mark.slow)])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A model, and the address of `rewander play` with its files."""
    shelf = tmp_path_factory.mktemp("weights")
    WRITERS[request.param](shelf)
    command = "from server.cli import app; app()"
    model = f"{request.param} weights='{shelf}' {SETTINGS}"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "play", "--model", model, "--port=0", "--no-browser"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Play at http"), line
        try:
            yield request.param, line.removeprefix("Play at ").strip()
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def test_it_is_played_with_keys_and_words(page: Page, large: tuple[str, str]) -> None:
    model, address = large
    enter(page, address, "?transport=ws&seed=3")
    expect(page.locator("#place-text")).to_contain_text(model)
    before = picture(page)
    page.keyboard.down("KeyW")
    page.wait_for_function("rewander.lastReceipt.applied_seq >= 1")
    until(page, lambda: change(before, picture(page)) > 1)
