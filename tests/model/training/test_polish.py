import numpy as np
import torch

from model.rooms.vae import VAE
from model.training.loop import Run
from model.training.polish import (
    Contest,
    Critic,
    Polishing,
    Pool,
    Sequences,
    critic_loss,
    polish,
    polishing_loss,
    select,
    start,
)
from model.training.sequences import RECENT, Drawing, draw
from model.training.teachers import TEACHING, Teachers, with_targets
from tests.model.rooms.small import networks
from tests.model.training.episodes import data

DRAWING = Drawing(batch=2, targets=4, recall_dropout=0.0)
TRAINING = Polishing(DRAWING, pool=4, stride=2, context_noise=0.0, own_depth=0.0)


def contest() -> tuple[Contest, Teachers]:
    torch.manual_seed(0)
    made = networks()
    return Contest(made.dit, Critic()), Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))


def begun(teachers: Teachers, seed: int = 3) -> Sequences:
    batch = draw(data(), TRAINING.drawing, np.random.default_rng(seed))
    return start(teachers, batch, TRAINING, torch.Generator().manual_seed(0))


def test_each_side_learns_from_its_own_loss() -> None:
    both, teachers = contest()
    generator = torch.Generator().manual_seed(0)
    losses, made = polishing_loss(both, teachers, begun(teachers), TRAINING, generator=generator)
    losses["loss"].backward()
    assert made.shape == (2, 4, 16, 16, 16)
    assert all(p.grad is not None for p in both.critic.parameters())
    assert both.dit.unembed.weight.grad.abs().sum() > 0
    assert all(p.grad is None for teacher in teachers for p in teacher.parameters())


def test_the_critic_learns_only_from_telling_pairs_apart() -> None:
    """Fooling it teaches the transformer alone."""
    both, teachers = contest()
    sequences, generator = begun(teachers), torch.Generator().manual_seed(0)
    losses, made = polishing_loss(both, teachers, sequences, TRAINING, generator=generator)
    losses["loss"].backward()
    learnt = [p.grad.clone() for p in both.critic.parameters()]
    both.zero_grad()
    generator.manual_seed(0)
    telling, smoothness = critic_loss(both.critic, sequences.clean, made, TRAINING.jitter, generator=generator)
    (telling + TRAINING.smoothness * smoothness).backward()
    for ours, alone in zip(learnt, both.critic.parameters(), strict=True):
        torch.testing.assert_close(ours, alone.grad)


def test_a_critic_comes_to_tell_blurred_pictures_from_sharp_ones() -> None:
    torch.manual_seed(1)
    critic = Critic(width=16)
    sharp = torch.randn(8, 1, 16, 16, 16)
    blurred = sharp.mean((3, 4), keepdim=True).expand_as(sharp).contiguous()
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        optimizer.zero_grad()
        telling, smoothness = critic_loss(critic, sharp, blurred, 0.1, generator=generator)
        (telling + smoothness).backward()
        optimizer.step()
    assert float(critic(torch.randn(8, 16, 16, 16)).detach().mean()) > float(critic(blurred[:, 0]).detach().mean())
    assert float(telling.detach()) < 0.5


def test_sequences_move_on_along_their_episodes_to_the_end() -> None:
    _, teachers = contest()
    made, rng = data(), np.random.default_rng(0)
    pool = Pool(made, size=1, stride=2)
    one = select(begun(teachers), 0)
    first, e = int(one.batch.frames[0, RECENT]), int(one.batch.episodes)
    one = one._replace(batch=with_targets(teachers, one.batch, torch.randn_like(one.clean)))
    own = one.batch.clip[:, RECENT:]
    pool.put(one._replace(rounds=torch.tensor([2])), rng)
    (moved,) = pool.take(1, rng)
    batch = moved.batch
    assert torch.equal(batch.frames[0, RECENT:], torch.arange(first + 2, first + 6))
    assert torch.equal(batch.clip[:, RECENT - 2 : -2], own)
    frames = batch.frames[0, RECENT:].numpy()
    assert np.array_equal(moved.clean[0].numpy(), made.latents[e][frames].astype(np.float32))
    assert np.array_equal(batch.clip[0, -2:].numpy(), moved.clean[0, -2:].numpy())
    assert np.array_equal(batch.poses[0, RECENT:].numpy(), made.poses[e][frames])
    assert np.array_equal(batch.controls[0, RECENT:].numpy(), made.controls[e][frames])
    assert torch.equal(moved.noise[:, :-2], one.noise[:, 2:])
    for rounds in range(4, 100, 2):
        pool.put(moved._replace(rounds=torch.tensor([rounds])), rng)
        if not (taken := pool.take(1, rng)):
            break
        (moved,) = taken
    assert moved.batch.frames[0, -1] in (58, 59)  # the last of the episode


def test_a_pool_is_bounded_and_old_sequences_stay_in_it() -> None:
    _, teachers = contest()
    pool, rng = Pool(data(), size=4, stride=50), np.random.default_rng(0)
    ages = []
    for seed in range(20):
        new = begun(teachers, seed)
        taken = pool.take(2, rng)
        ages += [int(one.rounds) for one in taken]
        for one in [new, *taken]:
            pool.put(one._replace(rounds=one.rounds + 1), rng)
    assert max(ages) > 4
    assert len(pool.take(4, rng)) == 4


def test_polishing_can_be_stopped_and_resumed(tmp_path) -> None:
    both, teachers = contest()
    before = both.dit.unembed.weight.detach().clone()
    made = polish(data(), both.dit, teachers, Run(tmp_path, steps=2, checkpoint_every=0.0), TRAINING)
    assert not torch.equal(made.unembed.weight, before)
    again = polish(data(), networks().dit, teachers, Run(tmp_path, steps=2), TRAINING)
    assert torch.equal(again.unembed.weight, made.unembed.weight)
    assert isinstance(teachers.vae, VAE)
