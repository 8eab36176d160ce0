"""Phrases for the camera: what controls say, and what an operator's file may say."""

import json

import numpy as np
import pytest

from model.framepack.camera import SHIPPED, CameraError, load_camera

FRAMES = 36


@pytest.fixture
def camera():
    return load_camera()


def controls(camera, **moved):
    """A section's controls: of each axis a value for all frames, or a list for the first ones."""
    names = [axis.name for axis in camera.axes]
    vectors = np.zeros((FRAMES, len(names)), np.float32)
    for name, value in moved.items():
        values = value if isinstance(value, list) else [value] * FRAMES
        vectors[: len(values), names.index(name)] = values
    return vectors


def test_at_rest_the_prompt_is_all_there_is(camera):
    assert camera.direct("  A garden. ", controls(camera)) == "A garden."
    assert camera.direct("", controls(camera)) == ""


def test_the_most_moved_axis_speaks_first(camera):
    both = controls(camera, turn=-1.0, move=0.5)
    assert camera.direct("A garden.", both) == "A garden. The camera pans to the left. The camera moves forward."
    assert camera.phrases(controls(camera, turn=0.5, move=-1.0)).startswith("The camera moves backward.")


def test_a_tap_is_heard_and_a_stick_at_rest_is_not(camera):
    assert camera.phrases(controls(camera, strafe=[1.0])) == "The camera slides to the right."
    assert camera.phrases(controls(camera, strafe=0.1)) == ""
    assert camera.phrases(controls(camera, strafe=[1.0, -1.0])) == ""  # there and back


def test_the_schema_has_the_keys_of_the_file(camera):
    axes = {axis.name: axis for axis in camera.schema.axes}
    assert list(axes) == ["move", "strafe", "turn", "look"]
    assert dict(axes["move"].keys)["KeyS"] == -1.0
    assert (axes["look"].pointer, axes["look"].pointer_gain) == ("y", -0.02)


def test_an_operator_edits_a_copy(tmp_path):
    entries = json.loads(SHIPPED.read_text())
    entries[0] |= {"forward": "Dolly in.", "keys": {"Space": 1}}
    (tmp_path / "mine.json").write_text(json.dumps(entries[:1]))
    mine = load_camera(tmp_path / "mine.json")
    assert mine.direct("A garden.", np.ones((FRAMES, 1), np.float32)) == "A garden. Dolly in."
    assert mine.schema.axes[0].keys == (("Space", 1.0),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "truncated"),
        ("[]", r"got \[\]"),
        ('[{"name": "move", "forward": ""}]', "`backward`"),
        ('[{"name": "move", "forward": "", "backward": "", "gain": 1}]', "`gain`"),
        ('[{"name": "move", "forward": "", "backward": "", "pointer": "z"}]', "'z'"),
        ('[{"name": "a", "forward": "", "backward": ""}, {"name": "a", "forward": "", "backward": ""}]', "'a', 'a'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, said):
    path = tmp_path / "camera.json"
    path.write_text(text)
    with pytest.raises(CameraError, match=said) as raised:
        load_camera(path)
    assert str(path) in str(raised.value)
