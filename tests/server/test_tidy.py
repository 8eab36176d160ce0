"""Memory goes back to the system after something has ended, and only then."""

import asyncio
import ctypes
from pathlib import Path

from server.tidy import tidy, trim_heap
from tests.server.running import running, until
from tests.server.ws_client import WsClient

MEGABYTE = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_what_is_freed_in_pieces_goes_back() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pieces = [library.malloc(60_000) for _ in range(2_000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 60_000)
    for piece in pieces[:-1]:  # the last one holds the heap's end where it is
        library.free(ctypes.c_void_p(piece))
    before = resident()
    assert trim_heap()
    assert before - resident() > 50 * MEGABYTE
    library.free(ctypes.c_void_p(pieces[-1]))


async def test_it_is_done_once_for_all_that_ended() -> None:
    ended, trimmed = [0], []
    working = asyncio.ensure_future(tidy(lambda: ended[0], every=0.01, trim=lambda: trimmed.append(ended[0])))
    await asyncio.sleep(0.05)
    assert trimmed == []
    ended[0] = 3
    await until(lambda: trimmed)
    await asyncio.sleep(0.05)
    assert trimmed == [3]
    working.cancel()


async def test_a_server_counts_who_has_left() -> None:
    async with running() as server:
        for _ in range(2):
            async with WsClient(server.host):
                pass
        await until(lambda: server.house.lobby.num_left == 2)
