"""What the commands about clips do, on a rich console; the command line parses their arguments."""

import time
from pathlib import Path

from rich.console import Console

from model.clips.job import JobError
from model.clips.mp4 import read_comment
from model.clips.queue import check_out, list_jobs, remove_job, submit
from model.clips.request import ClipRequest, parse_tag

from .clip_view import View, table
from .clips import Ended, Load, Studio

CLIP_ERRORS = (ValueError, OSError, JobError)  # what users can cause; the message says what was expected and what came


def request_of(path: Path) -> ClipRequest:
    """The request that a finished clip answered; its given files are still where they were, or not."""
    return parse_tag(read_comment(path)).request


def generate(request: ClipRequest, out: Path, *, queue: Path, load: Load, console: Console) -> Ended:
    """Make one clip now. Raises CLIP_ERRORS, and then there is no job, for what can be said before.

    A job that is interrupted or fails stays in the queue; of one that is done the file tells all.
    """
    check_out(queue, out)
    with View(console) as view:
        studio = Studio(load, tell=view.tell)
        studio.check(request)
        name = submit(queue, request, out, created=time.time())
        ended = studio.run_one(queue, name)
    if ended.state == "done":
        remove_job(queue, name)
    return ended


def run(queue: Path, *, load: Load, console: Console) -> list[Ended]:
    """Make all clips that wait in the queue, telling of each as it ends."""
    done = []
    with View(console) as view:
        for ended in Studio(load, tell=view.tell).run_queue(queue):
            console.print(f"{ended.name} {ended.state}: {ended.problem or ended.out}", markup=False, highlight=False)
            done.append(ended)
    return done


def show(queue: Path, *, console: Console) -> None:
    """The jobs of a queue as a table."""
    console.print(table(list_jobs(queue)))
