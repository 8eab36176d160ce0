"""`rewander train`: the stages that make `rooms`, and LoRA for large models; commands import what they need."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .extras import extra

VARIANTS_RATE = 1e-3  # for a hundred steps or so


def train(
    stage: Annotated[
        str,
        typer.Argument(
            help="start, vae, vae-distill, depth, reach, dit, polish, dit-distill, painter, painter-distill, "
            "painter-match, export; lora, variants."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Checkpoints, logs and samples; training resumes from them.")],
    episodes: Annotated[Path, typer.Option(help="Recorded episodes.")] = Path("data/rooms"),
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all, those done before included.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores but one by default.")] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu; CUDA where there is one by default.")] = "",
    model: Annotated[str, typer.Option(help="lora: the model to fine-tune.")] = "wan",
    weights: Annotated[list[Path] | None, typer.Option(help="lora: a folder to look in first; repeatable.")] = None,
    prompt: Annotated[str, typer.Option(help="lora: what all episodes show; what was pressed is added.")] = "",
    phrases: Annotated[Path | None, typer.Option(help="lora: a file of phrases for what was pressed.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="lora: of the adapters.")] = 16,
    rate: Annotated[float, typer.Option(help="lora: of learning.")] = 1e-4,
    size: Annotated[str, typer.Option(help="lora: width and height of frames.")] = "832x480",
    history_noise: Annotated[float, typer.Option(help="lora: on the past, so that drift is known; 0.1 is much.")] = 0.0,
    schedule: Annotated[
        str, typer.Option(help="lora: of the history; the model's own by default. For rooms several, with commas.")
    ] = "",
    entries: Annotated[int, typer.Option(min=1, help="lora: of the codebook, for a schedule with +D.")] = 128,
) -> None:
    """Train `rooms` from scratch, stage by stage; `export` writes the weights into FOLDER/weights. Or fine-tune.

    `start` lets the stages begin from the shipped weights, to teach them other episodes.

    `lora` teaches a large model the episodes' world and keys, or `rooms` other schedules, +D (a codebook) or noise on
    its history; the adapters are then in FOLDER/lora. --episodes may be the latents of another training of `rooms`.

    `variants` trains all adapters of `rooms` that `rewander eval drift` takes, each in a folder of its name.
    """
    from model.threads import spare_threads, use_threads

    threads = threads or spare_threads()
    if stage in {"lora", "variants"}:
        asked: dict[str, Any] = {"folder": folder, "episodes": episodes, "prompt": prompt, "schedule": schedule}
        asked |= {
            "history_noise": history_noise,
            "entries": entries,
            "seed": seed,
            "device": device,
            "threads": threads,
        }
        asked |= {"tell": typer.echo} | ({"phrases": phrases} if phrases else {})
        places = {"weights": weights or [], "size": size}
        if stage == "variants":
            _tune_variants(asked, places, rank=rank, steps=steps)
        else:
            _fine_tune(model, asked, places, learning={"rank": rank, "rate": rate}, steps=steps or 2_000)
        return
    with extra("train"):
        from model.training.record import EpisodeError
        from model.training.stages import STAGES, StageError, Workshop, export, fastest_device, start

    if stage not in {"start", *STAGES, "export"}:
        raise typer.BadParameter(f"expected one of start, {', '.join(STAGES)}, export, lora or variants, got {stage!r}")
    use_threads(threads)
    shop = Workshop(folder, episodes, device or fastest_device())
    try:
        if stage == "start":
            start(shop)
        elif stage == "export":
            export(shop, folder / "weights")
        else:
            run, usual = STAGES[stage]
            run(shop, steps=steps or usual, seed=seed)
    except (StageError, EpisodeError) as error:
        raise typer.BadParameter(str(error)) from error


def _tune_variants(asked: dict[str, Any], places: dict[str, Any], *, rank: int, steps: int | None) -> None:
    """Each of them on the episodes as the first one has encoded them."""
    with extra("train"):
        from model.evaluation.rows import variants

    made = variants()
    encoded = asked["folder"] / next(iter(made)) / "latents"
    for name, variant in made.items():
        own = {"folder": asked["folder"] / name, "schedule": ",".join(variant.schedules)}
        own |= {"episodes": encoded} if encoded.exists() else {}
        own |= {"history_noise": variant.noise} | ({"entries": variant.entries} if variant.entries else {})
        learning = {"rank": rank, "rate": VARIANTS_RATE}
        _fine_tune("rooms", asked | own, places, learning=learning, steps=steps or variant.steps)


def _fine_tune(
    model: str, asked: dict[str, Any], places: dict[str, Any], *, learning: dict[str, Any], steps: int
) -> None:
    with extra("train"):
        from model.clips.request import parse_size
        from model.lora.stage import LoraOrder, stage_lora
        from model.lora.task import LoraTraining

        from .model_commands import shelf_of

    try:
        columns, rows = parse_size(places["size"])
        order = LoraOrder(weights=shelf_of(places["weights"]), frame_shape=(rows, columns), **asked)
        adapters = stage_lora(model, order, LoraTraining(**learning), steps=steps)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"The adapters are in {adapters}")
