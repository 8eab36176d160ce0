"""The command line: the one file that reads arguments and environment. Commands import what they need when they run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import track

from . import bench_commands, eval_commands, model_commands, queue_commands, train_commands, world_commands
from .extras import extra
from .queue_commands import Clips, clip_errors

if TYPE_CHECKING:
    from .serve import ServeConfig

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command()(bench_commands.bench)
app.command()(train_commands.train)
app.command()(model_commands.models)
app.add_typer(eval_commands.app, name="eval")
app.add_typer(queue_commands.app, name="clips")
app.add_typer(world_commands.app, name="worlds")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("rewander"))
        raise typer.Exit


@app.callback()
def rewander(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Playable world models with a memory: the place you walk back to is the place you left."""


Host = Annotated[str, typer.Option(help="Address to listen on; other than loopback needs a token.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free port.")]
Certificate = Annotated[Path | None, typer.Option(help="PEM file; with --key it makes HTTPS.")]
Key = Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")]
Token = Annotated[str, typer.Option(envvar="REWANDER_TOKEN", help="Whoever has it may come in.")]
Secret = Annotated[str, typer.Option(envvar="REWANDER_JWT_SECRET", help="Signs tokens for one role.")]
Origins = Annotated[list[str] | None, typer.Option(help="A page elsewhere that may connect; repeatable.")]
Stun = Annotated[list[str] | None, typer.Option(help="A STUN server, as stun:host:port; repeatable.")]
Turn = Annotated[list[str] | None, typer.Option(help="A TURN server, as turn:host:port; repeatable.")]
TurnSecret = Annotated[str, typer.Option(envvar="REWANDER_TURN_SECRET", help="Shared with the TURN servers.")]
ModelName = Annotated[
    str,
    typer.Option(
        help="By its entry point in `rewander.models`; a large one with settings, as "
        "'framepack-f1 weights=/data lora=style.safetensors*0.8 camera=phrases.json steps=20'. "
        "`rewander models --show settings` lists them."
    ),
]
WorldsFolder = Annotated[Path | None, typer.Option(help="Keep worlds in this folder, to resume after a crash.")]
Viewers = Annotated[int, typer.Option(min=0, help="Of one session at once.")]
Upscale = Annotated[int, typer.Option(min=0, max=4, help="Enlarge H.264 pictures; 0 chooses.")]
Browser = Annotated[bool, typer.Option(help="Open the page.")]
Log = Annotated[Literal["text", "json"], typer.Option(help="How log lines are written.")]


def _door(
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    token: str,
    jwt_secret: str,
    origin: list[str] | None,
    stun: list[str] | None,
    turn: list[str] | None,
    turn_secret: str,
) -> "ServeConfig":
    """Where to listen, who may come in, and how they get through; ValueError for what makes no sense."""
    from .auth import AuthConfig
    from .ice import IceConfig
    from .rtc import RtcConfig
    from .serve import ServeConfig

    auth = AuthConfig(token=token, jwt_secret=jwt_secret, origins=tuple(origin or ()))
    ice = IceConfig(tuple(stun or ()), tuple(turn or ()), turn_secret)
    return ServeConfig(host, port, certificate, key, auth, rtc=RtcConfig(ice=ice))


def _say(what: str, *, browser: bool) -> Callable[[str], None]:
    """What to do with the address once the server listens."""
    from .serve import show_page

    def ready(address: str) -> None:
        typer.echo(f"{what} at {address}")
        if browser:
            show_page(address)

    return ready


@contextmanager
def _serve_errors() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ValueError) as error:  # UnknownModelError and ExposedError are ValueErrors
        typer.echo(f"Cannot serve: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def play(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    model: ModelName = "rooms",
    token: Token = "",
    jwt_secret: Secret = "",
    origin: Origins = None,
    worlds: WorldsFolder = None,
    sessions: Annotated[int, typer.Option(min=1, help="Players at once.")] = 16,
    viewers: Viewers = 32,
    upscale: Upscale = 0,
    certificate: Certificate = None,
    key: Key = None,
    stun: Stun = None,
    turn: Turn = None,
    turn_secret: TurnSecret = "",
    log: Log = "text",
    browser: Browser = True,
) -> None:
    """Serve a world to play: the page, WebRTC and WebSocket on one port."""
    from .diary import DiaryConfig
    from .encode import EncodeConfig
    from .engine import EngineConfig
    from .lobby import LobbyConfig
    from .serve import run

    with _serve_errors():
        door = _door(host, port, certificate, key, token, jwt_secret, origin, stun, turn, turn_secret)
        engine = EngineConfig(max_sessions=sessions, diary=DiaryConfig(folder=worlds))
        lobby = LobbyConfig(viewers=viewers)
        config = replace(door, engine=engine, encode=EncodeConfig(upscale=upscale), lobby=lobby, log=log)
        run(model, config, ready=_say("Play", browser=browser))


@app.command()
def stream(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    model: ModelName = "rooms",
    session: Annotated[str, typer.Option(help="The name by which viewers find it.")] = "live",
    seed: Annotated[int | None, typer.Option(min=0, help="Of the world and of the walk; drawn by default.")] = None,
    prompt: Annotated[str, typer.Option(help="For models that take one.")] = "",
    whip: Annotated[str, typer.Option(help="Publish to this WHIP endpoint too, such as an SFU's.")] = "",
    whip_token: Annotated[str, typer.Option(envvar="REWANDER_WHIP_TOKEN", help="Bearer token for it.")] = "",
    token: Token = "",
    jwt_secret: Secret = "",
    origin: Origins = None,
    worlds: WorldsFolder = None,
    viewers: Viewers = 64,
    upscale: Upscale = 0,
    certificate: Certificate = None,
    key: Key = None,
    stun: Stun = None,
    turn: Turn = None,
    turn_secret: TurnSecret = "",
    log: Log = "text",
    browser: Browser = True,
) -> None:
    """Show a world that walks by itself without end, to watch on the page and by WHEP, and at an SFU by WHIP."""
    from .diary import DiaryConfig
    from .encode import EncodeConfig
    from .engine import EngineConfig
    from .lobby import LobbyConfig
    from .stream import StreamConfig
    from .stream import stream as show
    from .whip_http import WhipConfig

    with _serve_errors():
        door = _door(host, port, certificate, key, token, jwt_secret, origin, stun, turn, turn_secret)
        engine, lobby = EngineConfig(diary=DiaryConfig(folder=worlds)), LobbyConfig(viewers=viewers)
        serve = replace(door, engine=engine, encode=EncodeConfig(upscale=upscale), lobby=lobby, log=log)
        uplink = WhipConfig(whip, whip_token) if whip else None
        show(model, StreamConfig(serve, session, seed, prompt, uplink), ready=_say("Watch", browser=browser))


@app.command()
def token(
    jwt_secret: Annotated[
        str, typer.Option(envvar="REWANDER_JWT_SECRET", help="The server's; better in the environment than here.")
    ],
    role: Annotated[str, typer.Option(help="player or viewer.")] = "viewer",
    session: Annotated[str, typer.Option(help="The only session that it lets in to; any if empty.")] = "",
    minutes: Annotated[float, typer.Option(help="How long it lets in; a day at most.")] = 60.0,
) -> None:
    """Print a signed token that lets its bearer in to one role, for a while."""
    from .auth import Grant, sign

    if role not in ("player", "viewer"):
        raise typer.BadParameter(f"expected player or viewer, got {role!r}")
    try:
        typer.echo(sign(jwt_secret, Grant("player" if role == "player" else "viewer", session), minutes=minutes))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(help="Where the episodes go, one file for each seed.")],
    env: Annotated[str, typer.Option(help="rooms, doom-my-way-home, doom-deathmatch, or a Gymnasium id.")] = "rooms",
    episodes: Annotated[int, typer.Option(min=1, help="How many; those already in the folder count.")] = 100,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
    length: Annotated[int, typer.Option(min=2, help="Frames of one episode.")] = 384,
    size: Annotated[int, typer.Option(min=8, help="Height and width of a frame in pixels.")] = 128,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core by default.")] = None,
) -> None:
    """Record episodes to train on: frames, controls, poses and, of `rooms` and Doom, depth."""
    with extra("train"):
        from model.threads import num_cores
        from model.training.record import Recording
        from model.training.record import record as record_missing

    recording = Recording(folder, env=env, length=length, size=size)
    seeds = range(first_seed, first_seed + episodes)
    missing = sum(not recording.path(seed).exists() for seed in seeds)
    paths = record_missing(recording, seeds=seeds, workers=workers or num_cores())
    for _ in track(paths, "Recording", total=missing):
        pass


@app.command()
def schedule(
    name: Annotated[str, typer.Argument(help="In the paper's grammar, such as f16k4f2k2f1k1_g9.")],
    height: Annotated[int, typer.Option(min=1, help="Rows of a latent.")] = 60,
    width: Annotated[int, typer.Option(min=1, help="Columns of a latent.")] = 104,
    picture: Annotated[Path | None, typer.Option(help="Draw the memory layout into this SVG file.")] = None,
) -> None:
    """Show the slots, kernels, tokens and RoPE indices of a packing schedule."""
    from rich.console import Console

    from model.packing.draw import describe
    from model.packing.draw import picture as draw
    from model.packing.schedule import Schedule, ScheduleError

    try:
        parsed = Schedule.parse(name)
    except ScheduleError as error:
        raise typer.BadParameter(str(error)) from error
    Console().print(describe(parsed, (height, width)))
    if picture is not None:
        picture.write_text(draw(parsed, (height, width)))


@app.command()
def generate(
    out: Annotated[Path, typer.Argument(help="The MP4 file to write.")],
    model: Annotated[str, typer.Option(help="A model by its entry point.")] = "rooms",
    seconds: Annotated[float, typer.Option(min=0.01, help="Of new frames.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    timeline: Annotated[str, typer.Option(help="Such as '[0s-2s: move=1 turn=0.3] [2s: turn=-1]'.")] = "",
    prompt: Annotated[str, typer.Option(help="For models that take one.")] = "",
    order: Annotated[str, typer.Option(help="vanilla, endpoint, inverted or planned.")] = "vanilla",
    schedule: Annotated[str, typer.Option(help="A packing schedule; the order's own by default.")] = "",
    endpoints: Annotated[int, typer.Option(min=1, help="Planned first, in the planned order.")] = 1,
    size: Annotated[str, typer.Option(help="Width and height, such as 512x512.")] = "",
    image: Annotated[str, typer.Option(help="Begin with this image.")] = "",
    video: Annotated[str, typer.Option(help="Extend this video.")] = "",
    end: Annotated[str, typer.Option(help="Arrive at this image, in an order that can.")] = "",
    history: Annotated[float, typer.Option(help="Seconds of the video that the model sees.")] = 8.0,
    recall: Annotated[bool, typer.Option(help="Remember what the clip has shown.")] = True,
    keep: Annotated[bool, typer.Option(help="Show what was given too.")] = True,
    later: Annotated[bool, typer.Option("--later", help="Only put it into the queue; see `clips run`.")] = False,
    queue: Clips = Path("clips"),
) -> None:
    """Make a clip: from a seed, an image or a video, with controls or prompts on a timeline."""
    import time

    import msgspec
    from rich.console import Console

    from model.clips.queue import submit
    from model.clips.request import ClipRequest, Given, parse_size

    from . import clip_commands
    from .serve import load_model

    asked = {"model": model, "seconds": seconds, "seed": seed, "timeline": timeline, "prompt": prompt, "order": order}
    asked |= {"schedule": schedule, "endpoints": endpoints, "recall": recall}
    with clip_errors():
        given = Given(image=image, video=video, end=end, history_seconds=history, keep=keep)
        asked |= {"size": parse_size(size) if size else None, "given": msgspec.to_builtins(given)}
        request = msgspec.convert(asked, ClipRequest)
        if later:
            typer.echo(submit(queue, request, out, created=time.time()))
            return
        ended = clip_commands.generate(request, out, queue=queue, load=load_model, console=Console(stderr=True))
    if ended.problem:
        typer.echo(ended.problem, err=True)
        raise typer.Exit(1)
