"""Action-to-photon on loopback in headless Chromium: our page by WebRTC and WebSocket, beside stock aiortc.

    python -m tests.client_demo.bench_action_to_photon [--json] [--viewers 32]

A key is pressed, and the time is taken until the picture that answers it is on the page. The model costs nothing
and shows 30 frames per second, so half a frame period of each figure is waiting for the next frame. The three take
turns, so that what else the machine does falls on all of them. With `--viewers` it is our page by WebRTC only, in turns
with and without so many viewers of its session.
"""

import argparse
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median, quantiles

from playwright.sync_api import Browser, Page, sync_playwright

from tests.client_demo.blink_model import BlinkModel
from tests.client_demo.conftest import QUIET
from tests.client_demo.probe import action_to_photon
from tests.client_demo.serving import served
from tests.client_demo.watchers import watching


@dataclass(frozen=True, slots=True)
class Way:
    """One way from a key to a picture."""

    name: str
    server: str
    query: str
    surface: str  # selector of what shows the picture
    ready: str  # holds once pictures flow


WAYS = (
    Way("webrtc", "blink", "?transport=rtc", "#video", "rewander.framesShown > 30"),
    Way("websocket", "blink", "?transport=ws", "#picture", "rewander.framesShown > 30"),
    Way("stock", "stock", "", "#video", "document.getElementById('video').currentTime > 1"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="flat keys, milliseconds")
    parser.add_argument("--count", type=int, default=30, help="key events per turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: %(default)s)")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of the browser")
    parser.add_argument("--viewers", type=int, default=0, help="compare with so many viewers (default: none)")
    wanted = parser.parse_args()
    if wanted.viewers:
        figures = measure_watched(wanted.chromium, wanted.viewers, count=wanted.count, rounds=wanted.rounds)
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        return
    figures = measure(wanted.chromium, count=wanted.count, rounds=wanted.rounds)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if wanted.json else table(figures))


def measure(chromium: str, *, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds under flat keys: `action_to_photon_{webrtc,websocket,stock}_{p50,p95}_ms` and the frame period.

    `..._receipts_p50_ms` is what the page itself says, by the receipts of the frames that it showed.
    """
    samples: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        addresses = {name: stack.enter_context(served(name)) for name in {way.server for way in WAYS}}
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        stack.callback(browser.close)
        for way in WAYS * rounds:
            with _visit(browser, addresses[way.server] + way.query, way.ready) as page:
                samples[way.name] += action_to_photon(page, way.surface, count=count)
                if way.server == "blink":
                    samples[f"{way.name}_receipts"] += page.evaluate("rewander.actionToPhoton")
    return summary(samples) | {"action_to_photon_frame_period_ms": round(1000 / BlinkModel().spec.frame_rate, 1)}


def measure_watched(chromium: str, viewers: int, *, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds under flat keys: `action_to_photon_{alone,watched}_{p50,p95}_ms`, and the ratio of the two p50.

    The turns go alone, watched, watched, alone, ... on one page, so that a drift falls on both.
    """
    samples: dict[str, list[float]] = {"alone": [], "watched": []}
    way = WAYS[0]
    with served(way.server) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        with _visit(browser, address + way.query, way.ready) as page:
            session = page.evaluate("rewander.welcome.session")
            for turn in range(rounds):
                for name in sorted(samples, reverse=bool(turn % 2)):
                    expected = viewers if name == "watched" else 0
                    with watching(address, session, viewers) if expected else nullcontext():
                        page.wait_for_function(f"rewander.status?.viewers === {expected}")
                        samples[name] += action_to_photon(page, way.surface, count=count)
                        assert page.evaluate("rewander.status.viewers") == expected, "some viewers were lost"
        browser.close()
    figures = summary(samples)
    ratio = figures["action_to_photon_watched_p50_ms"] / figures["action_to_photon_alone_p50_ms"]
    return figures | {"action_to_photon_viewers": viewers, "action_to_photon_watched_ratio": round(ratio, 2)}


@contextmanager
def _visit(browser: Browser, url: str, ready: str) -> Iterator[Page]:
    """A fresh page, after `ready` holds."""
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.goto(url)
    page.wait_for_function(ready)
    yield page
    page.close()


def summary(samples: dict[str, list[float]]) -> dict[str, float]:
    figures = {}
    for name, times in samples.items():
        figures[f"action_to_photon_{name}_p50_ms"] = round(median(times), 1)
        figures[f"action_to_photon_{name}_p95_ms"] = round(quantiles(times, n=20)[-1], 1)
    return figures


def table(figures: dict[str, float]) -> str:
    rows = [("", "p50 ms", "p95 ms")]
    for way in WAYS:
        rows.append(
            (way.name, *(f"{figures[f'action_to_photon_{way.name}_{part}_ms']:.1f}" for part in ("p50", "p95")))
        )
    return "".join(f"{name:<12}{p50:>8}{p95:>8}\n" for name, p50, p95 in rows)


if __name__ == "__main__":
    main()
