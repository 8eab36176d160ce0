"""What is counted comes out in the text that Prometheus reads."""

import asyncio
import json
import re
import time
from importlib.resources import files

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics import LAG_EVERY, Metrics, watch_loop


def samples(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {sample.name: sample.value for family in families for sample in family.samples if "le" not in sample.labels}


def test_figures_are_rendered_and_two_servers_stay_apart() -> None:
    one, other = Metrics(), Metrics()
    one.encode.observe(0.004)
    one.frames.inc(3)
    one.refusals.labels("auth.token").inc()
    one.connections.labels("ws", "viewer").inc(2)
    rendered = samples(one)
    assert rendered["rewander_encode_seconds_sum"] == pytest.approx(0.004)
    assert rendered["rewander_frames_total"] == 3
    assert rendered["rewander_refusals_total"] == 1
    assert rendered["rewander_connections"] == 2
    assert samples(other)["rewander_frames_total"] == 0


async def test_a_blocked_loop_shows() -> None:
    metrics = Metrics()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch_loop(metrics))
        await asyncio.sleep(0.01)
        time.sleep(LAG_EVERY + 0.1)  # noqa: ASYNC251  this is the lag
        await asyncio.sleep(0.01)
        watching.cancel()
    assert samples(metrics)["rewander_loop_lag_seconds_sum"] >= 0.09


def test_the_dashboard_shows_every_figure_and_no_other() -> None:
    dashboard = json.loads((files("server") / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"rewander_\w+", expression)}
    families = list(text_string_to_metric_families(Metrics().render().decode()))
    kinds = {family.name: family.type for family in families if not family.name.endswith("_created")}
    suffixes = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    assert shown == {name + suffixes[kind] for name, kind in kinds.items()}
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len(dashboard["panels"]) == len({panel["id"] for panel in dashboard["panels"]})
