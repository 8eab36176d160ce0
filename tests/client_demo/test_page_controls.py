"""The page's keyboard, mouse and touch, by what it sends to the real server."""

from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Page, expect

from server import protocol as wire
from tests.client_demo.visit import enter, inputs_of, sent_by, until

pytestmark = pytest.mark.browser


def test_every_change_is_sent_thrice_as_full_state(page: Page, world: str) -> None:
    messages = sent_by(page)
    enter(page, world, "?transport=ws&seed=3")
    page.keyboard.down("KeyW")
    until(page, lambda: len(inputs_of(messages)) >= 6)  # and on for as long as it is down
    page.keyboard.up("KeyW")
    page.keyboard.press("KeyX")  # steers nothing here
    until(page, lambda: [each.seq for each in inputs_of(messages)][-3:] == [2, 2, 2])
    page.wait_for_timeout(100)
    inputs = inputs_of(messages)
    held = [each for each in inputs if each.seq == 1]
    released = [each for each in inputs if each.seq == 2]
    assert len(inputs) == len(held) + len(released)
    assert len(released) == 3
    assert {tuple(each.keys) for each in held} == {("KeyW",)}
    assert {tuple(each.keys) for each in released} == {()}
    assert all(each.presses == {"KeyW": 1} for each in inputs)
    assert all(later.ts - earlier.ts >= 8 for earlier, later in pairwise(released))
    assert messages[0] == wire.Hello(seed=3)
    assert any(isinstance(message, wire.Ack) for message in messages)


def test_the_mouse_looks_around_once_it_is_captured(page: Page, world: str) -> None:
    messages = sent_by(page)
    enter(page, world, "?transport=ws")
    page.mouse.move(300, 200)
    page.mouse.move(340, 220)
    page.wait_for_timeout(100)
    assert not inputs_of(messages)
    page.mouse.click(300, 200)
    page.wait_for_function("document.pointerLockElement !== null")
    page.mouse.move(330, 190, steps=5)
    page.mouse.move(350, 195, steps=5)
    until(page, lambda: [each.pointer for each in inputs_of(messages)][-1:] == [(50.0, -5.0)])
    assert not inputs_of(messages)[-1].keys


def test_a_thumb_walks_and_a_finger_looks(browser: Browser, world: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    messages = sent_by(page)
    enter(page, world, "?transport=ws")
    fingers = context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[int, int, int]) -> None:
        touches = [{"id": number, "x": x, "y": y} for number, x, y in points]
        fingers.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})

    touch("Start", (1, 100, 640))
    touch("Move", (1, 100, 612))
    touch("Start", (1, 100, 612), (2, 250, 300))
    touch("Move", (1, 100, 612), (2, 270, 290))
    expect(page.locator("#stick")).to_have_class("raised")
    until(page, lambda: any(each.axes.get("climb") and each.pointer[0] > 30 for each in inputs_of(messages)))
    touch("End")
    page.wait_for_function("rewander.lastReceipt.applied_seq >= 3")
    inputs = inputs_of(messages)
    assert any(each.axes.get("climb") == pytest.approx(0.5) for each in inputs)  # half of the stick's 56 pixels, up
    assert inputs[-1].pointer == pytest.approx((32.0, -16.0))
    assert set(inputs[-1].axes.values()) == {0.0}
    context.close()


GAMEPAD = """
const pad = { connected: true, axes: [0, 0, 0, 0] };
navigator.getGamepads = () => [null, pad];
window.pad = pad;
"""


def test_a_gamepad_walks_and_looks_past_its_dead_zone(page: Page, world: str) -> None:
    page.add_init_script(GAMEPAD)
    messages = sent_by(page)
    enter(page, world, "?transport=ws")
    page.evaluate("pad.axes = [0, 0.1, 0, 0]; dispatchEvent(new Event('gamepadconnected'))")
    page.wait_for_timeout(100)
    assert not inputs_of(messages)
    page.evaluate("pad.axes = [0, -1, 0.575, 0]")
    tilted = pytest.approx({"climb": 1.0, "turn": 0.5})
    until(page, lambda: any(each.axes == tilted for each in inputs_of(messages)))
    page.evaluate("pad.connected = false")
    until(page, lambda: inputs_of(messages)[-1].axes == {})
