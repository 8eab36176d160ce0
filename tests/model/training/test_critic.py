"""The critic: what it learns to tell."""

import torch

from model.training.critic import Critic, critic_loss


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
