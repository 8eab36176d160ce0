"""The wire protocol: typed messages, one msgpack map each, the same on WebSocket and data channels.

The map's key `t` names the message. Times are milliseconds: `client_ts` on the client's clock, echoed
untouched; `t_*` on the server's monotonic clock. Input is full state under a growing `seq`, so that it
may be sent several times, be lost and come out of order: presses and pointer motion are totals since
the connection began or took the controls.
"""

from typing import Annotated, Literal

import msgspec

SUBPROTOCOL = "rewander.v1.msgpack"
MAX_MESSAGE_BYTES = 65_536
MAX_IMAGE_BYTES = 60_000

Name = Annotated[str, msgspec.Meta(max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Unit = Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]
Pixels = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]  # a range also refuses NaN
Millis = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Message(msgspec.Struct, frozen=True, tag_field="t", tag=str.lower, omit_defaults=True):
    """Base of all messages; the tag is the class name in lower case."""


# client to server


class Hello(Message, frozen=True):
    """First on a WebSocket (a WebRTC offer says the same in its query): enter `session`, or a new one."""

    session: Name = ""
    token: Annotated[str, msgspec.Meta(max_length=4_096)] = ""
    resume: Name = ""
    role: Literal["player", "viewer"] = "player"
    codec: Literal["h264", "jpeg", "raw"] = "h264"
    seed: Count | None = None
    prompt: Text = ""
    waiting: Annotated[Name, msgspec.Meta(description="what the last `error` gave, to keep a place in the queue")] = ""


class Input(Message, frozen=True):
    """The full state of the controls; the newest `seq` wins."""

    seq: Count
    ts: Millis = 0.0
    keys: Annotated[list[Name], msgspec.Meta(max_length=16, description="KeyboardEvent.code, held now")] = []
    presses: Annotated[dict[Name, Count], msgspec.Meta(max_length=32, description="keydowns so far")] = {}
    pointer: Annotated[tuple[Pixels, Pixels], msgspec.Meta(description="pixels so far")] = (0.0, 0.0)
    axes: Annotated[dict[Name, Unit], msgspec.Meta(max_length=16, description="by name; touch, gamepads, bots")] = {}


class Reset(Message, frozen=True):
    """Leave this world for a new one: from an encoded image (JPEG, PNG, WebP), or from a seed."""

    seed: Count | None = None
    image: Annotated[bytes, msgspec.Meta(max_length=MAX_IMAGE_BYTES)] = b""
    prompt: Text = ""


class Settings(Message, frozen=True):
    """Switch recall or pause; what is left out stays as it is."""

    recall: bool | None = None
    paused: bool | None = None


class Prompt(Message, frozen=True):
    """Describe what the world is from the next section on."""

    text: Text


class Claim(Message, frozen=True):
    """A viewer asks for the controls; who asked first gets them when the player yields."""


class Yield(Message, frozen=True):
    """A player hands the controls to the first who asks; a viewer asks for them no longer."""


class Ack(Message, frozen=True):
    """WebSocket only: the newest frame shown. The server holds back when too many are unacknowledged."""

    frame: Count


class Latency(Message, frozen=True):
    """What a player's client has measured since it last said so, once a second at most; for the server's figures."""

    action_to_photon: Annotated[
        list[Annotated[float, msgspec.Meta(ge=0.0, le=60_000.0)]],
        msgspec.Meta(max_length=64, description="milliseconds from sending an input to showing the frame it is in"),
    ]


class Ping(Message, frozen=True):
    """Answered by Pong with the same `ts`. A WebRTC client is given up when silent: it pings every second."""

    ts: Millis


# server to client


class Axis(msgspec.Struct, frozen=True, omit_defaults=True):
    """One component of the control vector: what each key gives, and each pixel of pointer motion, in [-1, 1]."""

    name: str
    keys: dict[str, float] = {}
    pointer: Literal["x", "y"] | None = None
    pointer_gain: float = 0.0


class Welcome(Message, frozen=True):
    """The answer to Hello: what the world is and how it is steered. `resume` re-enters it within a minute."""

    session: str
    resume: str
    role: Literal["player", "viewer"]
    model: str
    width: int
    height: int
    frame_rate: float
    schedule: str
    context_tokens: int
    num_recalled: int
    axes: list[Axis]
    accepts_image: bool = True
    accepts_prompt: bool = False


class Seating(Message, frozen=True):
    """Who holds the controls, after `welcome` and when that changes; `role` and `resume` replace those of before."""

    role: Literal["player", "viewer"]
    resume: str = ""
    has_player: Annotated[bool, msgspec.Meta(description="without one the controls wait for it")] = True
    num_asking: int = 0
    place: Annotated[int, msgspec.Meta(description="among those who ask, from 1; 0 if the client does not ask")] = 0


class Receipt(Message, frozen=True):
    """Which control a frame answers. With WebRTC it travels on the `events` channel, by RTP timestamp."""

    frame: int
    applied_seq: int
    client_ts: float
    t_recv: float
    t_applied: float
    t_sent: float
    rtp: int = 0


class Frame(Message, frozen=True):
    """WebSocket only: one encoded picture. `key` frames stand alone; H.264 is Annex B, raw is RGB rows."""

    receipt: Receipt
    codec: Literal["h264", "jpeg", "raw"]
    key: bool
    width: int
    height: int
    data: bytes


class Status(Message, frozen=True):
    """Once a second."""

    fps: float
    generate_ms: float
    context_tokens: int
    memory_entries: int
    viewers: int
    recall: bool = True
    paused: bool = False


class Recalled(Message, frozen=True):
    """Which memories the model reads now, best first, with JPEG thumbnails; sent when the choice changes."""

    frame: int
    ids: list[int]
    scores: list[float]
    why: list[str]
    thumbnails: list[bytes]


class Progress(Message, frozen=True):
    """Once a second while a section is made that takes longer: how far it is, and a JPEG of what it comes to."""

    frame: Annotated[int, msgspec.Meta(description="the section's first")]
    step: Annotated[int, msgspec.Meta(description="done")]
    num_steps: int
    preview: bytes = b""


class Pong(Message, frozen=True):
    """The answer to Ping."""

    ts: float


class Error(Message, frozen=True):
    """The connection closes after it, unless `code` begins with `input.` or `model.`.

    `input.*`: what the client asked for is not done. `model.failed`: the model failed at the section in flight, which
    is lost; the world was set back to its last finished section and goes on. When that happens too often in a row the
    session ends with `session.failed`, and `resume` brings its world back if it is written down.

    If `retry_after` is not 0, it may help to come again after so many seconds. On a full server a player has a `place`
    in a queue, which is kept by saying hello with `waiting` then.
    """

    code: str
    message: str
    retry_after: float = 0.0
    place: Annotated[int, msgspec.Meta(description="in the queue for a session, from 1; 0 without a queue")] = 0
    waiting: str = ""


class Goaway(Message, frozen=True):
    """The server is leaving; come back with `resume` after `retry_after` seconds."""

    resume: str
    retry_after: float


FromClient = Hello | Input | Reset | Settings | Prompt | Claim | Yield | Ack | Latency | Ping
FromServer = Welcome | Seating | Receipt | Frame | Status | Recalled | Progress | Pong | Error | Goaway

_from_client: msgspec.msgpack.Decoder[FromClient] = msgspec.msgpack.Decoder(FromClient)
_from_server: msgspec.msgpack.Decoder[FromServer] = msgspec.msgpack.Decoder(FromServer)
_encoder = msgspec.msgpack.Encoder()


class ProtocolError(ValueError):
    """A message that is not one; `code` goes to the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_last(message: Message) -> bool:
    """Whether the connection closes after this message from the server."""
    goes_on = isinstance(message, Error) and message.code.startswith(("input.", "model."))
    return isinstance(message, Error | Goaway) and not goes_on


def decode_from_client(data: bytes) -> FromClient:
    """Parse one message; raises ProtocolError saying what was expected and what came."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("message.size", f"expected at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
    try:
        return _from_client.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the last for deep unknown fields
        raise ProtocolError("message.malformed", f"expected a {SUBPROTOCOL} message: {error}") from error


def decode_from_server(data: bytes) -> FromServer:
    return _from_server.decode(data)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)
