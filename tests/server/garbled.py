"""Messages that are nearly right: what a broken or hostile client sends, drawn from a seeded generator."""

from random import Random

from server.protocol import (
    Ack,
    Claim,
    Hello,
    Input,
    Latency,
    Message,
    Ping,
    Prompt,
    Reset,
    Settings,
    Welcome,
    Yield,
    encode,
)

HARMLESS = (Ping(ts=1.0), Input(seq=3, keys=["KeyW"], pointer=(1.0, -1.0)), Ack(frame=10**9), Claim(), Yield())
MESSAGES: tuple[Message, ...] = (
    *HARMLESS,
    Hello(session="s", seed=1),
    Hello(resume="a.b"),
    Input(seq=2**53 - 1, presses={"KeyW": 9}, axes={"turn": 0.5}),
    Input(seq=1, axes={"fly": 1.0}),
    Reset(seed=5),
    Reset(image=b"\x89PNG\r\n\x1a\n" + bytes(40)),
    Latency(action_to_photon=[20.0, 31.5]),
    Settings(recall=False, paused=True),
    Settings(paused=False),
    Prompt(text="red"),
    Prompt(text=""),
    Welcome("s", "r", "player", "m", 1, 1, 1.0, "", 0, 0, []),
)
MARKERS = b"\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc4\xc6\xc7\xc9\xca\xcb\xcf\xd3\xd9\xdb\xdc\xdd\xde\xdf\xff"


def garble(data: bytes, random: Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in; markers of msgpack are put in more often than others."""
    changed = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(changed) + 1)
        end = at + random.randrange(8)
        match random.randrange(4):
            case 0:
                changed[at:at] = random.randbytes(random.randrange(6))
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end] * random.randrange(4)
            case _:
                changed[at : at + 1] = bytes([random.choice(MARKERS)])
    return bytes(changed)


def message(random: Random, *, harmless: float) -> bytes:
    """Any message, whole or garbled; a share of `harmless` ends no connection."""
    if random.random() < harmless:
        return encode(random.choice(HARMLESS))
    data = encode(random.choice(MESSAGES))
    return data if random.random() < 0.3 else garble(data, random)
