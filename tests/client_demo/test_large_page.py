"""A large model on the page, from its files: a tiny checkpoint in the official layout, and the command a user types."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.client_demo.visit import change, enter, picture, until
from tests.model.checkpoints import official
from tests.model.hunyuan import tiny

pytestmark = pytest.mark.browser

SETTINGS = "device=cpu width=80 height=48 schedule=f1k1f16k4f2k2f1k1_g3 steps=2"
STOP_SECONDS = 15.0


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of `rewander play` with files in the layout of Hugging Face's cache."""
    shelf = tmp_path_factory.mktemp("weights")
    official.write_framepack(shelf, tiny.parts(), layout=official.cached)
    command = "from server.cli import app; app()"
    model = f"framepack-f1 weights='{shelf}' {SETTINGS}"
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
            yield line.removeprefix("Play at ").strip()
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def test_it_is_played_with_keys_and_words(page: Page, large: str) -> None:
    enter(page, large, "?transport=ws&seed=3")
    expect(page.locator("#place-text")).to_contain_text("framepack-f1")
    before = picture(page)
    page.keyboard.down("KeyW")
    page.wait_for_function("rewander.lastReceipt.applied_seq >= 1")
    until(page, lambda: change(before, picture(page)) > 1)
