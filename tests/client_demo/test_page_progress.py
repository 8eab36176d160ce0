"""The page while a section takes long: a bar through its steps and a preview, until its first frame is there."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, WebSocketRoute, expect

from server import protocol as wire
from tests.client_demo.visit import enter, more_frames, shown

pytestmark = pytest.mark.browser


FAR = 10**6  # a frame that is not shown in this test


def jpeg() -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.full((32, 64, 3), 200, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_steps_and_preview_are_shown_until_the_frames_come(page: Page, world: str) -> None:
    routes: list[WebSocketRoute] = []
    page.route_web_socket("**/ws", lambda route: (route.connect_to_server(), routes.append(route)))
    enter(page, world, "?transport=ws")
    bar = page.locator("#progress")
    expect(bar).to_have_css("opacity", "0")
    routes[0].send(wire.encode(wire.Progress(FAR, 12, 25, jpeg())))
    expect(bar).to_have_css("opacity", "1")
    expect(page.locator("#progress-text")).to_have_text("step 12 of 25")
    expect(page.locator("#progress-bar")).to_have_js_property("position", 12 / 25)
    expect(page.locator("#preview")).to_have_js_property("naturalWidth", 64)
    routes[0].send(wire.encode(wire.Progress(FAR, 13, 25)))
    expect(page.locator("#progress-text")).to_have_text("step 13 of 25")
    expect(page.locator("#preview")).to_be_hidden()
    more_frames(page)
    expect(bar).to_have_css("opacity", "1")
    awaited = shown(page, "lastReceipt.frame") + 10
    routes[0].send(wire.encode(wire.Progress(awaited, 14, 25)))
    page.wait_for_function(f"rewander.lastReceipt.frame >= {awaited}")
    expect(bar).to_have_css("opacity", "0")
