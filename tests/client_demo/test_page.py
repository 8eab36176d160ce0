"""The page in a real browser against the real server: pictures, receipts, and every state it can be in."""

from io import BytesIO

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, WebSocketRoute, expect

from server import protocol as wire
from server.engine import EngineConfig
from server.limits import LimitConfig
from server.lobby import LobbyConfig
from server.serve import ServeConfig
from tests.client_demo.visit import (
    change,
    enter,
    inputs_of,
    more_frames,
    picture,
    sent_by,
    shown,
    until,
    until_changed,
)
from tests.server.background import in_background

pytestmark = pytest.mark.browser

WITHOUT_RTC = "delete window.RTCPeerConnection;"
WITH_DEAF_RTC = "window.RTCPeerConnection.prototype.setRemoteDescription = async () => {};"
WITHOUT_WEBCODECS = "delete window.VideoDecoder;"
WITH_SHORT_SECONDS = "const set = setTimeout; window.setTimeout = (act, ms) => set(act, ms === 1000 ? 200 : ms);"
FULL = ServeConfig(engine=EngineConfig(max_sessions=1, player_grace=0.5), limits=LimitConfig(entries_per_minute=600))


@pytest.mark.parametrize(("transport", "name"), [("rtc", "WebRTC"), ("ws", "WebSocket")])
def test_a_key_moves_the_picture_and_its_receipt_comes_back(page: Page, world: str, transport: str, name: str) -> None:
    enter(page, world, f"?transport={transport}&seed=3")
    assert shown(page, "transport") == name
    assert shown(page, "lastReceipt.applied_seq") == -1
    resting = picture(page)
    more_frames(page)
    assert change(resting, picture(page)) < 3  # nobody has touched anything
    page.keyboard.down("ArrowRight")
    page.wait_for_function("rewander.lastReceipt.applied_seq >= 1")
    until_changed(page, resting)
    page.keyboard.up("ArrowRight")
    page.wait_for_function("rewander.lastReceipt.applied_seq >= 2 && rewander.actionToPhoton.length >= 2")
    receipt = shown(page, "lastReceipt")
    assert receipt["t_recv"] <= receipt["t_applied"] <= receipt["t_sent"]
    assert all(0 < ms < 5000 for ms in shown(page, "actionToPhoton"))


def test_figures_are_shown(page: Page, world: str) -> None:
    enter(page, world)
    page.keyboard.press("KeyW")
    page.wait_for_function("rewander.actionToPhoton.length > 0 && rewander.status")
    for name in ("fps", "a2p", "generate", "context", "memories"):
        expect(page.locator(f"#figure-{name}")).not_to_have_text("–")
    expect(page.locator("#figure-context")).to_have_text("224")  # the tiny model's 7 latents of 4 x 8
    expect(page.locator("#place-text")).to_contain_text("live · tiny · WebRTC")


@pytest.mark.parametrize("transport", ["rtc", "ws"])
def test_what_the_page_measures_is_in_the_servers_figures(page: Page, transport: str) -> None:
    with in_background(ServeConfig()) as background:
        enter(page, f"{background.server.url}/", f"?transport={transport}")
        page.keyboard.press("KeyW")
        page.wait_for_function("rewander.actionToPhoton.length >= 2")
        expected = "rewander_action_to_photon_seconds_count 2.0"
        page.wait_for_function(f"async () => (await (await fetch('metrics')).text()).includes('{expected}')")
        page.goto("about:blank")


@pytest.mark.parametrize("obstacle", [WITHOUT_RTC, WITH_DEAF_RTC], ids=["none", "deaf"])
def test_without_webrtc_it_takes_the_websocket(page: Page, world: str, obstacle: str) -> None:
    page.add_init_script(obstacle)
    enter(page, world)
    assert shown(page, "transport") == "WebSocket"


def test_without_webcodecs_it_shows_jpeg(page: Page, world: str) -> None:
    page.add_init_script(WITHOUT_WEBCODECS)
    hellos = sent_by(page)
    enter(page, world, "?transport=ws&seed=3")
    resting = picture(page)
    page.keyboard.down("ArrowRight")
    until_changed(page, resting)
    assert isinstance(hellos[0], wire.Hello)
    assert hellos[0].codec == "jpeg"


def test_a_broken_connection_comes_back_to_the_same_world(page: Page, world: str) -> None:
    routes: list[WebSocketRoute] = []
    page.route_web_socket("**/ws", lambda route: (route.connect_to_server(), routes.append(route)))
    page.add_init_script(WITHOUT_RTC)
    enter(page, world)
    before = shown(page, "welcome.session"), shown(page, "lastReceipt.frame")
    page.evaluate(
        "new MutationObserver(() => (window.wasLost ||= document.body.dataset.stage === 'lost'))"
        ".observe(document.body, { attributes: true })"
    )
    routes[0].close(code=1011)
    page.wait_for_function("window.wasLost && rewander.stage === 'live'")
    assert shown(page, "welcome.session") == before[0]
    page.wait_for_function(f"rewander.lastReceipt.frame > {before[1]}")


def test_a_reload_comes_back_to_the_same_world(page: Page, world: str) -> None:
    enter(page, world)
    session, seed = shown(page, "welcome.session"), page.url
    page.reload()
    page.wait_for_function("window.rewander?.framesShown > 3")
    assert shown(page, "welcome.session") == session
    assert page.url == seed
    page.goto(world + "?seed=4")
    page.wait_for_function("window.rewander?.framesShown > 3")
    assert shown(page, "welcome.session") != session


@pytest.mark.parametrize("transport", ["rtc", "ws"])
def test_a_full_server_has_a_queue_that_moves_up(page: Page, context: BrowserContext, transport: str) -> None:
    with in_background(FULL) as background:
        address = f"{background.server.url}/"
        enter(page, address)
        late, later = context.new_page(), context.new_page()
        for number, one in enumerate((late, later), 1):
            one.add_init_script(WITH_SHORT_SECONDS)
            one.goto(f"{address}?transport={transport}")
            expect(one.locator("#card-title")).to_have_text(f"Number {number} in the queue")
            expect(one.locator("#card-text")).to_contain_text("Asking again in")
        page.goto("about:blank")
        late.wait_for_function("rewander.framesShown > 3")
        expect(later.locator("#card-title")).to_have_text("Number 1 in the queue")
        late.goto("about:blank")
        later.wait_for_function("rewander.framesShown > 3")
        later.goto("about:blank")


def test_too_many_viewers_are_told_when_to_come_again(page: Page, context: BrowserContext) -> None:
    with in_background(ServeConfig(lobby=LobbyConfig(viewers=0))) as background:
        address = f"{background.server.url}/"
        enter(page, address)
        viewer = context.new_page()
        viewer.goto(f"{address}?role=viewer&session={shown(page, 'welcome.session')}")
        viewer.wait_for_function("rewander.stage === 'busy'")
        expect(viewer.locator("#card-text")).to_contain_text("Next try in")
        expect(viewer.get_by_role("button", name="Try now")).to_be_visible()
        viewer.close()
        page.goto("about:blank")


def test_a_viewer_of_no_world_is_refused_and_may_open_one(page: Page, world: str) -> None:
    page.goto(world + "?session=nowhere&role=viewer")
    expect(page.locator("#card-title")).to_have_text("This world has ended")
    page.get_by_role("button", name="Open a new world").click()
    page.wait_for_function("rewander.framesShown > 3")
    assert shown(page, "welcome.role") == "player"


def test_a_viewer_sees_what_the_player_does(page: Page, context: BrowserContext, world: str) -> None:
    enter(page, world)
    viewer = context.new_page()
    messages = sent_by(viewer)
    enter(viewer, world, f"?transport=ws&role=viewer&session={shown(page, 'welcome.session')}")
    before = picture(viewer)
    page.keyboard.down("ArrowRight")
    until_changed(viewer, before)
    page.keyboard.up("ArrowRight")
    viewer.keyboard.press("KeyW")
    more_frames(viewer)
    assert not inputs_of(messages)
    expect(viewer.locator("#tool-world")).to_be_hidden()
    expect(viewer.locator("#place-text")).to_contain_text("watching")


@pytest.mark.parametrize("transport", ["rtc", "ws"])
def test_the_controls_are_asked_for_and_handed_over(
    page: Page, context: BrowserContext, world: str, transport: str
) -> None:
    enter(page, world, f"?transport={transport}&seed=3")
    expect(page.get_by_role("button", name="Hand over")).to_be_hidden()
    session = shown(page, "welcome.session")
    other = context.new_page()
    enter(other, world, f"?transport={transport}&role=viewer&session={session}")
    other.get_by_role("button", name="Take the controls").click()
    expect(other.get_by_role("button", name="Asked for the controls")).to_be_visible()
    page.get_by_role("button", name="Hand over").click()
    other.wait_for_function("rewander.welcome.role === 'player'")
    page.wait_for_function("rewander.welcome.role === 'viewer'")
    resting = picture(page)
    other.keyboard.down("ArrowRight")
    other.wait_for_function("rewander.lastReceipt.applied_seq >= 1")
    until_changed(page, resting)
    other.keyboard.up("ArrowRight")
    for reloaded, role in ((page, "viewer"), (other, "player")):
        reloaded.reload()
        reloaded.wait_for_function("window.rewander?.framesShown > 3")
        assert (shown(reloaded, "welcome.session"), shown(reloaded, "welcome.role")) == (session, role)


def test_new_worlds_come_from_seeds_and_images(page: Page, world: str) -> None:
    messages = sent_by(page)
    enter(page, world, "?transport=ws&seed=3")
    page.get_by_role("button", name="New world").click()
    page.get_by_label("Seed", exact=True).fill("12")
    page.get_by_role("button", name="Open this world").click()
    until(page, lambda: wire.Reset(seed=12) in messages)
    assert "seed=12" in page.url
    red = BytesIO()
    Image.new("RGB", (1600, 1200), (230, 20, 10)).save(red, "PNG")
    page.locator("#file").set_input_files({"name": "red.png", "mimeType": "image/png", "buffer": red.getvalue()})
    page.wait_for_function("document.getElementById('toast').textContent === 'A world from your image'")
    until(page, lambda: picture(page).mean((0, 1)) == pytest.approx((230, 20, 10), abs=12))
    seed, image = (message for message in messages if isinstance(message, wire.Reset))
    assert seed == wire.Reset(seed=12)
    assert Image.open(BytesIO(image.image)).size == (64, 32)  # twice the world's frames


def test_what_is_no_image_is_refused_in_words(page: Page, world: str) -> None:
    enter(page, world)
    page.locator("#file").set_input_files({"name": "notes.png", "mimeType": "image/png", "buffer": b"not a picture"})
    expect(page.locator("#toast")).to_contain_text("“notes.png” is not an image")


def test_recall_can_be_switched_and_is_shown(page: Page, world: str) -> None:
    enter(page, world, "?seed=5")
    page.keyboard.down("ArrowRight")
    page.wait_for_function("document.querySelectorAll('#thumbnails li').length > 0")
    page.keyboard.up("ArrowRight")
    expect(page.locator("#thumbnails img").first).to_have_js_property("complete", True)
    switch = page.get_by_role("switch", name="Recall")
    expect(switch).to_be_checked()
    switch.click()
    page.wait_for_function("rewander.status?.recall === false")
    expect(switch).not_to_be_checked()
