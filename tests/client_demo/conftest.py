"""Chromium for the tests of the page, one per module: Playwright's loop must not outlive it into async tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from tests.client_demo.serving import served

PATIENCE = 60_000  # milliseconds: of a machine that is busy with other things
PAGE = Path(__file__).parents[2] / "client_demo" / "page"
QUIET = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def world() -> Iterator[str]:
    """Address of a server that plays the tiny model, in a world of its own for everyone who asks for one."""
    with served("tiny") as address:
        yield address


@pytest.fixture
def url(world: str) -> str:
    """Where the tiny model's server takes WebSockets."""
    return world.replace("http", "ws", 1) + "ws"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 640, "height": 480})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that fails its test for every error that its scripts do not catch."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    """A blank page from whose origin the page's modules can be imported, without a server."""

    def serve(route: Route) -> None:
        name = route.request.url.rsplit("/", 1)[1]
        if name:
            route.fulfill(path=PAGE / name)
        else:
            route.fulfill(body="<!doctype html><title>blank</title>", content_type="text/html")

    page = browser.new_page()
    page.route("http://page.test/**", serve)
    page.goto("http://page.test/")
    yield page
    page.close()
