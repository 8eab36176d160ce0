"""What a browser test does and sees on the page."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from playwright.sync_api import Page, WebSocketRoute

from server import protocol as wire
from tests.client_demo.contract import check

PATIENCE = 60.0  # seconds: of a machine that is busy with other things
LOOK = """() => {
  const context = new OffscreenCanvas(32, 16).getContext("2d", { willReadFrequently: true });
  context.drawImage(document.getElementById("picture"), 0, 0, 32, 16);
  return [...context.getImageData(0, 0, 32, 16).data];
}"""


def enter(page: Page, address: str, query: str = "") -> None:
    """Open the page and wait until it shows the world."""
    page.goto(address + query)
    page.wait_for_function("window.rewander?.framesShown > 3")


def shown(page: Page, what: str) -> Any:
    """A property of the page's `window.rewander`."""
    return page.evaluate(f"rewander.{what}")


def picture(page: Page) -> np.ndarray:
    """What the page shows, as (16, 32, 3): the size of the tiny model's frames."""
    return np.array(page.evaluate(LOOK), float).reshape(16, 32, 4)[..., :3]


def change(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, in grey levels."""
    return float(np.abs(one - other).mean())


def sent_by(page: Page) -> list[wire.FromClient]:
    """A list that all messages of the page's WebSockets go into, held to the published document on their way."""
    messages: list[wire.FromClient] = []

    def listen(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def forward(data: str | bytes) -> None:
            assert isinstance(data, bytes)
            check(data)
            messages.append(wire.decode_from_client(data))
            server.send(data)

        route.on_message(forward)

    page.route_web_socket("**/ws", listen)
    return messages


def until(page: Page, happened: Callable[[], object]) -> None:
    """Wait for something that the page does not tell of, while its messages go on."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"expected it to happen within {PATIENCE} s"
        page.wait_for_timeout(20)


def until_changed(page: Page, before: np.ndarray) -> None:
    """Wait until the page shows another part of the world."""
    until(page, lambda: change(before, picture(page)) > 15)


def more_frames(page: Page, count: int = 5) -> None:
    """Wait until so many more are shown: time enough for what should not happen."""
    page.wait_for_function(f"rewander.framesShown >= {shown(page, 'framesShown') + count}")


def inputs_of(messages: list[wire.FromClient]) -> list[wire.Input]:
    return [message for message in messages if isinstance(message, wire.Input)]
