"""What a clip goes on from: as much of a video as the model is to see, in whole sections."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from model.clips.job import Job
from model.clips.mp4 import VideoError
from model.clips.queue import claim, submit
from model.clips.request import ClipRequest, Given, RequestError, Tag
from server.clip_past import Past, VideoModel, check_given, end_of, num_shown_before, read_past, shown_before
from server.protocol import ProtocolError
from tests.model.clips.planned_model import PlannedTiny
from tests.model.clips.videos import gray, levels, write_video

from .tiny_model import METRES, TinyModel


def job_of(tmp_path: Path, given: Given, **changes: object) -> Job:
    request = msgspec.structs.replace(ClipRequest(model="tiny", given=given), **changes)
    queue = tmp_path / "queue"
    return claim(queue, submit(queue, request, tmp_path / "out.mp4", created=1.0))


def video(tmp_path: Path, num: int, *, rate: int = 50, comment: str = "") -> Given:
    frames = [gray(level, shape=(16, 32)) for level in levels(num)]
    path = write_video(tmp_path / "v.mp4", frames, rate=Fraction(rate), comment=comment)
    return Given(video=str(path), history_seconds=0.4)


def light(past: Past) -> list[int]:
    """Gray levels of the past's image and latents."""
    assert past.image is not None
    latents = [latent for section in past.sections for latent in section.latents]
    return [round(float(past.image.mean())), *(round(float(latent.mean()) * 255) for latent in latents)]


@pytest.mark.parametrize(
    ("model", "num", "first"),
    [
        (TinyModel(), 30, 10),  # 20 frames, all of them
        (TinyModel(), 7, 0),
        (TinyModel(section_latents=3), 30, 11),  # 19 frames: a start and six sections
        (TinyModel(section_latents=3), 3, 2),  # too few for a section: the last frame is the start
    ],
)
def test_a_video_is_seen_up_to_its_end(tmp_path: Path, model: TinyModel, num: int, first: int) -> None:
    with job_of(tmp_path, video(tmp_path, num)) as job:
        past = read_past(job, model)
        assert light(past) == pytest.approx(levels(num)[first:], abs=4)
        assert {len(section.latents) for section in past.sections} <= {model.spec.section_latents}
        assert num_shown_before(job, model) == len(list(shown_before(job, model))) == num


def test_latents_of_several_frames_need_a_model_that_encodes_videos(tmp_path: Path) -> None:
    given = msgspec.structs.replace(video(tmp_path, 30, rate=12), history_seconds=1.5)
    planned = PlannedTiny()
    assert isinstance(planned, VideoModel)
    with job_of(tmp_path, given) as job:
        past = read_past(job, planned)
        assert light(past) == pytest.approx(levels(30)[29 - 12 :: 2], abs=4)
        with pytest.raises(RequestError, match="expected a model that encodes videos .* got tiny"):
            read_past(job, TinyModel(frames_per_latent=2))


def tag(**changes: object) -> str:
    request = msgspec.structs.replace(ClipRequest(model="tiny", timeline="[0s: turn=1]"), **changes)
    return msgspec.json.encode(Tag(request, "", "1", 20, 10, {})).decode()


@pytest.mark.parametrize(
    ("comment", "moved"),
    [
        (tag(), 19),  # of 30 frames, 10 were given to it; the start of what is seen is the first new one
        (tag(model="other"), 0),
        (tag(timeline="[0s: jump=1]"), 0),
        (tag(timeline="nonsense"), 0),
        ("a holiday", 0),
        ("", 0),
    ],
)
def test_a_clip_of_ours_says_how_the_camera_moved(tmp_path: Path, comment: str, moved: int) -> None:
    with job_of(tmp_path, video(tmp_path, 30, comment=comment)) as job:
        past = read_past(job, TinyModel())
    assert len(past.sections) == 19
    assert past.sections[-1].poses[0, 0] == pytest.approx(moved * 2 * METRES)


def image(tmp_path: Path, name: str = "i.png") -> str:
    Image.fromarray(gray(80, shape=(64, 64))).save(tmp_path / name)
    return str(tmp_path / name)


def test_an_image_is_shown_as_the_model_sees_it(tmp_path: Path) -> None:
    given = Given(image=image(tmp_path), end=image(tmp_path, "e.png"))
    with job_of(tmp_path, given) as job:
        [frame] = shown_before(job, TinyModel())
        end = end_of(job, TinyModel())
    assert end is not None
    assert frame.shape == end.shape == (16, 32, 3)
    assert frame.mean() == end.mean() == 80


def test_nothing_given_is_nothing_shown(tmp_path: Path) -> None:
    with job_of(tmp_path, Given()) as job:
        past = read_past(job, TinyModel())
        assert past.image is None
        assert past.sections == ()
        assert num_shown_before(job, TinyModel()) == len(list(shown_before(job, TinyModel()))) == 0
        assert end_of(job, TinyModel()) is None


def test_a_model_that_takes_no_image_is_given_none(tmp_path: Path) -> None:
    model = TinyModel()
    model.spec = replace(model.spec, accepts_image=False)
    with job_of(tmp_path, Given(image=image(tmp_path))) as job, pytest.raises(RequestError, match="tiny takes none"):
        read_past(job, model)


@pytest.mark.parametrize(("field", "error"), [("image", ProtocolError), ("end", ProtocolError), ("video", VideoError)])
def test_given_files_are_checked_before(tmp_path: Path, field: str, error: type[Exception]) -> None:
    (tmp_path / "x").write_bytes(b"no picture")
    with pytest.raises(error, match="expected a"):
        check_given(ClipRequest(given=Given(**{field: str(tmp_path / "x")})))
    with pytest.raises((OSError, VideoError)):
        check_given(ClipRequest(given=Given(**{field: str(tmp_path / "none")})))
    check_given(ClipRequest(given=Given(image=image(tmp_path))))
