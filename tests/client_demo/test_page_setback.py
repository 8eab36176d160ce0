"""The page when the model fails: it says so and goes on; if the session ended, it comes back by its token."""

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from server import protocol as wire
from tests.client_demo.visit import enter, more_frames, until

pytestmark = pytest.mark.browser


def test_a_setback_is_told_and_an_end_is_come_back_from(page: Page, world: str) -> None:
    routes: list[WebSocketRoute] = []
    greetings: list[wire.Hello] = []

    def pass_on(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        routes.append(route)

        def forward(data: str | bytes) -> None:
            assert isinstance(data, bytes)
            message = wire.decode_from_client(data)
            if isinstance(message, wire.Hello):
                greetings.append(message)
            server.send(data)

        route.on_message(forward)

    page.route_web_socket("**/ws", pass_on)
    enter(page, world, "?transport=ws&seed=3")
    routes[0].send(wire.encode(wire.Error("model.failed", "the model failed: no memory")))
    expect(page.locator("#toast")).to_have_text("the model failed: no memory")
    more_frames(page)
    assert len(greetings) == 1
    routes[0].send(wire.encode(wire.Error("session.failed", "three times", retry_after=0.2)))
    until(page, lambda: len(greetings) == 2)
    assert greetings[1].resume and greetings[1].seed is None
    more_frames(page)
