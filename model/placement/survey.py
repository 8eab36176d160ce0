"""The anatomy of a model by its name: of the files that are there, or of the released ones."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..checkpoints.load import FAMILIES, find
from ..checkpoints.places import MissingWeightsError, Shelf
from ..checkpoints.released import released
from .anatomy import Anatomy, Work, dissect

SMALLER = ((416, 736), (320, 576), (256, 448))  # frames that are offered where larger ones do not fit


def usual_work(model: str) -> Work:
    """As a model is played by default."""
    if model == "helios":
        return Work((384, 640), steps=50, passes=2)
    return Work(passes=1 if model.startswith("framepack") else 2)


def survey(model: str, shelf: Shelf, *, work: Work | None = None, transformer: Path | None = None) -> Anatomy:
    """Of a model in the catalogue; `transformer` as `find` takes it.

    Raises UnknownCheckpointError, ScheduleError, or WrongWeightsError for a configuration that makes no sense.
    """
    try:
        modules = FAMILIES[model].outline(find(shelf, model, transformer=transformer))
    except MissingWeightsError:
        modules = released(model)
    return survey_modules(model, modules, work or usual_work(model))


def survey_modules(model: str, modules: dict[str, nn.Module], work: Work) -> Anatomy:
    """Of networks that are outlined already."""
    family = FAMILIES[model]
    return dissect(modules, work, precision=family.precision, precise=family.precise)


def smaller(model: str, modules: dict[str, nn.Module], work: Work) -> Iterator[tuple[str, Anatomy]]:
    """Less demanding work, with what it is called, for `decide` to offer."""
    if work.batch > 1:
        yield "one session at a time", survey_modules(model, modules, replace(work, batch=1))
    for rows, columns in SMALLER:
        if rows * columns < work.frame_shape[0] * work.frame_shape[1]:
            less = replace(work, batch=1, frame_shape=(rows, columns))
            yield f"one session of {columns}x{rows} pixels", survey_modules(model, modules, less)
