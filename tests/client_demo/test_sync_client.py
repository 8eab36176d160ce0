"""The blocking client against the real server."""

import threading

import numpy as np
import pytest

from client_demo.client import ServerError
from client_demo.sync_client import SyncClient

SHAPE = (16, 32, 3)  # of the tiny model's frames


@pytest.mark.parametrize("codec", ["raw", "jpeg", "h264"])
def test_controls_come_back_applied_and_move_the_picture(url: str, codec: str) -> None:
    with SyncClient(url, codec=codec, seed=3) as world:
        before = world.frame()
        assert before.pixels.shape == SHAPE
        seq = world.steer(axes={"turn": 1.0})
        world.frame(lambda frame: frame.receipt.applied_seq >= seq)
        after = world.frame(lambda frame: frame.receipt.frame > before.receipt.frame + 10)
        assert after.receipt.applied_seq == seq
        assert np.abs(before.pixels.astype(int) - after.pixels).mean() > 20


def test_no_frame_is_returned_twice_and_waiting_ends(url: str) -> None:
    with SyncClient(url) as world:
        frames = [world.frame().receipt.frame for _ in range(5)]
        assert frames == sorted(set(frames))
        with pytest.raises(TimeoutError, match="within 0.2 s"):
            world.frame(lambda frame: frame.receipt.frame < 0, timeout=0.2)


def test_what_ends_the_connection_is_raised_where_frames_are_read(url: str) -> None:
    with SyncClient(url) as world:
        world.frame()
        world.steer(axes={"no such axis": 1.0})
        with pytest.raises(ServerError, match=r"input\.axis"):
            world.frame(lambda frame: frame.receipt.applied_seq > 0)


def test_a_refusal_leaves_no_thread_behind(url: str) -> None:
    threads = threading.active_count()
    with pytest.raises(ServerError, match=r"session\.unknown"), SyncClient(url, session="nowhere", role="viewer"):
        pass
    assert threading.active_count() == threads
