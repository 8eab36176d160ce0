"""Fine-tuning a tiny Wan to be FramePack, from files of films to a model that plays what was learned."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model.framepack.camera import load_camera
from model.framepack.slots import Slots
from model.lora.files import fuse_lora
from model.lora.films import FilmError, load_film, moment
from model.lora.framepack import FilmTraining, draw, film_task, flow_loss
from model.lora.students import wan_student
from model.lora.task import LoraTraining, adapt, train_lora
from model.packing.schedule import Schedule
from model.training.loop import Run
from tests.model.wan import tiny

SCHEDULE = Schedule.parse("f1k1f4k4f2k2f1k1_g2")
TRAINING = FilmTraining(SCHEDULE, batch=4)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Still scenes, each with a picture of its own: what comes next can be read from the history alone."""
    folder, random = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    paths = []
    for i in range(6):
        still = np.repeat(random.choice([-1.0, 1.0], (1, 4, 1, 1)), 12, axis=0) * np.ones((12, 4, 4, 4))
        film = {
            "start": np.zeros((32, 32, 3), np.uint8),
            "latents": still.astype(np.float16),
            "controls": np.zeros((44, 3), np.float32),
        }
        paths.append(folder / f"{i}.safetensors")
        save_file(film, paths[-1])
    return paths


def student():
    return wan_student(tiny.parts(in_channels=4, out_channels=4), SCHEDULE)


def validate(pupil, films, *, mistaken=False):
    """The loss on moments and noise that training never draws, `mistaken` after the history of another film."""
    moments = [moment(load_film(path), first=first, section=2, num_recent=7) for path in films for first in (1, 5, 9)]
    if mistaken:
        others = [*moments[3:], *moments[:3]]
        moments = [m._replace(history=other.history) for m, other in zip(moments, others, strict=True)]
    generator = torch.Generator().manual_seed(77)
    with torch.no_grad():
        losses = [loss_of(pupil, [m], generator=generator) for m in moments]
    return float(torch.stack(losses).mean())


def loss_of(pupil, moments, *, generator):
    slots = Slots(SCHEDULE, num_recalled=0)
    return flow_loss(pupil.network, slots, moments, TRAINING, camera=load_camera(), generator=generator)


def test_it_learns_to_go_on_from_a_history_and_what_it_learned_plays(tmp_path, films):
    before, pupil = validate(student(), films), student()
    task = film_task(pupil, films, TRAINING, camera=load_camera())
    train_lora(task, Run(tmp_path, 200, warmup=10, ema=0.9, checkpoint_every=3600), LoraTraining(rank=8, rate=1e-2))
    fresh = student()
    fuse_lora(tmp_path, fresh.denoiser, learned=fresh.learned)
    after = validate(fresh, films)
    assert after < 0.3 * before
    assert after < 0.5 * validate(fresh, films, mistaken=True)


def test_a_run_repeats_itself_from_its_seed(films):
    def losses(seed):
        task = film_task(student(), films, TRAINING, camera=load_camera(), seed=seed)
        return [task.loss(step)["loss"].item() for step in range(3)]

    assert losses(0) == losses(0)
    assert len(set(losses(0) + losses(1))) == 6


def test_all_ages_are_drawn(films):
    rng = np.random.default_rng(0)
    ages = {int(draw(films, TRAINING, rng, length=12)[0].history.valid.sum()) for _ in range(60)}
    assert ages == {2, 3, 4, 5, 6, 7, 8}  # the start stands in its own slot and among the recent


def test_what_was_pressed_is_said(films):
    [still] = draw(films, FilmTraining(SCHEDULE), np.random.default_rng(0), length=12)
    pressed = still._replace(controls=np.tile(np.float32([0, 0, 1]), (8, 1)))
    losses = [loss_of(student(), [m], generator=torch.Generator().manual_seed(0)).item() for m in (still, pressed)]
    assert losses[0] != losses[1]
    strange = still._replace(controls=np.zeros((8, 9), np.float32))
    with pytest.raises(FilmError, match="at most the camera's 4 axes of control, got 9"):
        loss_of(student(), [strange], generator=torch.Generator())


def test_films_that_are_too_short_are_refused(films):
    long = FilmTraining(Schedule.parse("f1k1f4k4f2k2f1k1_g12"))
    with pytest.raises(FilmError, match="more than 12 latents, got some of 12"):
        film_task(student(), films, long, camera=load_camera())


def test_noise_on_the_past_wears_the_recent_latents_of_half_of_the_moments(films):
    class Shown:
        """What a network is shown."""

        device = torch.device("cpu")
        pieces = []

        def look(self, frame):
            return frame

        def condition(self, prompts, image):
            return prompts, image

        def pack(self, pieces, *, target):
            self.pieces.append(pieces)
            return target

        def velocity(self, rows):
            return torch.cat([row.noisy for row in rows])

    network, training = Shown(), FilmTraining(SCHEDULE, history_noise=0.5)
    [seen] = draw(films[:1], FilmTraining(SCHEDULE), np.random.default_rng(4), length=12)
    slots = Slots(SCHEDULE, num_recalled=0)
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        flow_loss(network, slots, [seen], training, camera=load_camera(), generator=generator)
    clean = [piece.latents for piece in slots.pieces(seen.history)]
    worn = [(pieces[-1].latents - clean[-1]).abs().mean().item() for pieces in network.pieces]
    assert all(torch.equal(pieces[0].latents, clean[0]) for pieces in network.pieces)  # the start
    assert 10 <= sum(change == 0 for change in worn) <= 30
    assert 0.3 < max(worn) < 0.9
    with pytest.raises(ValueError, match="history_noise from 0 to below 1"):
        FilmTraining(SCHEDULE, history_noise=1.0)


def test_a_coarse_network_learns_in_float32(films):
    parts = tiny.parts(in_channels=4, out_channels=4)
    tiny.coarse(parts.transformer)
    pupil = wan_student(parts, SCHEDULE)
    task = film_task(pupil, films, TRAINING, camera=load_camera())
    adapters = adapt(task, rank=4)
    task.loss(0)["loss"].backward()
    assert {weight.dtype for weight in adapters.parameters()} == {torch.float32}
    assert all(weight.grad is not None for weight in adapters.parameters())
    assert adapters.learned_state()["packer.projections.k4h8w8.weight"].grad.abs().max() > 0
