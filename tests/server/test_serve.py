"""A server put together, exposed or not, and drained on a signal."""

import asyncio
import os
import signal
import ssl
import time
from importlib.metadata import EntryPoint
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from aiortc import RTCCertificate
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from PIL import Image
from websockets.exceptions import ConnectionClosed

from server.auth import AuthConfig, ExposedError
from server.diary import DiaryConfig
from server.engine import EngineConfig
from server.protocol import Frame, Goaway, Hello
from server.serve import (
    ModelSettingsError,
    ServeConfig,
    UnknownModelError,
    _thumbnail,
    build,
    load_model,
    parse_model,
    run,
)
from tests.server.running import fetch, running, until
from tests.server.tiny_model import TinyModel
from tests.server.ws_client import WsClient


def test_a_server_that_anyone_could_enter_is_not_built() -> None:
    for host in ("0.0.0.0", "192.0.2.7"):
        with pytest.raises(ExposedError):
            build(TinyModel(), ServeConfig(host=host), ready=print)
        with pytest.raises(ExposedError):
            run("no model is loaded for it", ServeConfig(host=host), ready=print)
        build(TinyModel(), ServeConfig(host=host, auth=AuthConfig(token="t")), ready=print)


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownModelError, match="expected one of .* got 'nonesuch'"):
        load_model("nonesuch")


def test_settings_stand_behind_a_models_name() -> None:
    assert parse_model("rooms") == ("rooms", {})
    spoken = "wan steps=20 weights='/my models' lora=a.safetensors*0.5 schedule="
    wanted = {"steps": "20", "weights": "/my models", "lora": "a.safetensors*0.5", "schedule": ""}
    assert parse_model(spoken) == ("wan", wanted)


@pytest.mark.parametrize("spoken", ["wan steps", "wan =20", "wan 'steps", "wan two words=1", "wan a-b=1"])
def test_settings_that_are_none_are_named(spoken: str) -> None:
    with pytest.raises(ModelSettingsError, match="expected"):
        parse_model(spoken)


def test_settings_that_a_model_does_not_take_are_refused() -> None:
    with pytest.raises(ModelSettingsError, match=r"expected settings that rooms takes, got \['colour'\]"):
        load_model("rooms colour=red")


def test_a_models_name_leads_to_what_makes_it() -> None:
    point = EntryPoint("tiny", "tests.server.tiny_model:TinyModel", "rewander.models")
    assert point.load()().spec.name == "tiny"


def test_thumbnails_are_small_and_keep_their_form() -> None:
    frame = np.full((128, 256, 3), (10, 200, 30), np.uint8)
    data = _thumbnail(frame)
    image = Image.open(BytesIO(data))
    assert image.size == (64, 32) and len(data) < 1500
    assert np.abs(np.asarray(image).astype(int) - frame[0, 0]).max() < 12


async def test_a_signal_says_goodbye_and_the_world_is_there_again_after_a_restart(tmp_path: Path) -> None:
    config = ServeConfig(engine=EngineConfig(diary=DiaryConfig(folder=tmp_path)))
    async with running(config) as server, WsClient(server.host, Hello(codec="raw", seed=2)) as client:
        last = (await client.frames(20))[-1]
        began = time.monotonic()
        server.server.handle_exit(signal.SIGTERM, None)
        server.server._captured_signals.clear()  # or uvicorn raises it again in the end
        goaway = await client.next(Goaway)
        with pytest.raises(ConnectionClosed) as closed:
            await client.next(Frame)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        assert goaway.resume == client.welcome.resume and goaway.retry_after > 0
    assert time.monotonic() - began < 10
    async with running(config) as server, WsClient(server.host, Hello(codec="raw", resume=goaway.resume)) as client:
        assert client.welcome.session == goaway.resume.rpartition(".")[0]
        assert last.receipt.frame <= (await client.next(Frame)).receipt.frame < last.receipt.frame + 500


async def test_a_session_whose_journal_cannot_be_kept_plays_on(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    config = ServeConfig(engine=EngineConfig(diary=DiaryConfig(folder=folder)))
    async with running(config) as server, WsClient(server.host) as client:
        await client.next(Frame)
        assert b"rewander_unwritten 1.0" in server.house.render_metrics()
    async with running() as server, WsClient(server.host) as client:  # none are to be kept
        assert b"rewander_unwritten 0.0" in server.house.render_metrics()


async def test_nothing_is_left_when_clients_have_come_and_gone() -> None:
    async with running() as server:
        async with WsClient(server.host) as client:
            await client.next(Frame)
        tasks, files = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            async with WsClient(server.host) as client:
                await client.next(Frame)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: len(os.listdir("/proc/self/fd")) <= files)
        assert (await fetch(server.host, "GET", "/healthz")).status == 200


async def test_a_certificate_makes_it_https(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.check_hostname = False
    server = build(TinyModel(), ServeConfig(port=0, certificate=certificate, key=key), ready=(addresses := []).append)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        await until(lambda: addresses)
        assert addresses[0].startswith("https://127.0.0.1:")
        page = await asyncio.to_thread(lambda: urlopen(addresses[0] + "healthz", context=trusting).read())
        server.should_exit = True
    assert page == b'{"status":"ok"}'


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of the kind that aiortc makes for each peer."""
    made = RTCCertificate.generateCertificate()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made._cert.public_bytes(Encoding.PEM))
    key.write_bytes(made._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key
