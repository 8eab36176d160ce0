"""The README's plug-in does what it says, through the interface that the server uses."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from model.world_model import History
from server.protocol import FromClient, FromServer

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_plug_in_turns_the_picture() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    model = names["Panorama"]()
    state = model.open(image=None, prompt="", seed=3)
    history = History(state.start.latents, np.zeros(1, np.int64), state.start.poses, np.ones(1, bool))
    jobs = model.begin([state], [np.array([[1.0]], np.float32)], [history])
    while jobs[0].steps_left:
        model.advance(jobs)
    sections = model.finish(jobs)
    (before,), (after,) = model.decode([state], [state.start]), model.decode([state], sections)
    assert np.array_equal(after, np.roll(before, -8, axis=2))
    assert sections[0].latents.shape == (1, *model.spec.latent_shape)
    assert np.allclose(np.linalg.norm(model.features(sections[0].latents), axis=1), 1)


def test_every_message_and_its_fields_are_named() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]+)` )?\|", README, re.MULTILINE))
    for message in (*FromClient.__args__, *FromServer.__args__):
        named = rows[message.__name__.lower()].split()
        fields = list(message.__struct_fields__)
        assert named == fields or (named[-1] == "..." and named[:-1] == fields[: len(named) - 1])
