"""The page's reading of Link headers, in the browser, and that it asks the servers that the endpoint names."""

from typing import Any

import pytest
from playwright.sync_api import Page

from server.ice import IceConfig, ice_links
from server.rtc import RtcConfig
from server.serve import ServeConfig
from tests.client_demo.visit import enter, shown
from tests.server.background import in_background

pytestmark = pytest.mark.browser

TURN = IceConfig(turn=("turn:127.0.0.1:9?transport=udp",), turn_secret="north")
READ = """async (header) => (await import("/ice.js")).iceServersOf(header)"""
NOTE = """const set = RTCPeerConnection.prototype.setConfiguration;
RTCPeerConnection.prototype.setConfiguration = function (configuration) {
  window.configured = { ...configuration, gathering: this.iceGatheringState };
  return set.call(this, configuration);
};"""


def read(page: Page, header: str | None) -> Any:
    return page.evaluate(READ, header)


def test_what_the_server_writes_the_page_reads(modules: Page) -> None:
    config = IceConfig(("stun:a.example",), ("turn:b.example:3478?transport=udp", "turns:c.example"), "north")
    stun, *turn = read(modules, ", ".join(ice_links(config, now=1433895018.0)))
    assert stun == {"urls": "stun:a.example"}
    assert [server["urls"] for server in turn] == list(config.turn)
    assert {server["username"] for server in turn} == {"1433898618"}
    assert all(len(server["credential"]) == 28 for server in turn)


@pytest.mark.parametrize("header", [None, "", "nothing", '<https://a.example>; rel="next", </x>; rel=ice-server'])
def test_other_links_are_no_ice_servers(modules: Page, header: str | None) -> None:
    assert read(modules, header) == []


def test_unquoted_attributes_and_other_orders_are_read_too(modules: Page) -> None:
    header = '<turn:a.example>; username=me; credential="a, b; c"; rel=ice-server, <stun:b>; rel=ice-server'
    first = {"urls": "turn:a.example", "username": "me", "credential": "a, b; c"}
    assert read(modules, header) == [first, {"urls": "stun:b"}]


def test_the_page_gathers_at_the_servers_of_the_answer_and_connects(page: Page) -> None:
    page.add_init_script(NOTE)
    with in_background(ServeConfig(rtc=RtcConfig(ice=TURN))) as background:
        enter(page, f"{background.server.url}/", "?transport=rtc")
        assert shown(page, "transport") == "WebRTC"
        configured = page.evaluate("configured")
        assert configured["gathering"] == "new"
        (server,) = configured["iceServers"]
        assert server["urls"] == TURN.turn[0] and server["username"].isdecimal() and server["credential"]
        page.goto("about:blank")
