"""Sessions of Helios and their chunks, as the server keeps them."""

import numpy as np

from model.world_model import History

REST = np.zeros((9, 4), np.float32)


class Player:
    """One session and its chunks, as the server keeps them."""

    def __init__(self, model, *, seed=1, image=None, prompt="a cat walks"):
        self.model, self.state = model, model.open(image=image, prompt=prompt, seed=seed)
        self.chunks = self.state.start.latents

    rest = REST

    @property
    def history(self):
        count = self.model.spec.num_recent
        indices = np.arange(len(self.chunks) - count, len(self.chunks))
        recent = np.where((indices >= 0)[:, None, None, None], self.chunks[indices.clip(0)], 0)
        return History(
            latents=np.concatenate([self.chunks[:1], recent]),
            indices=np.concatenate([[0], indices.clip(0)]),
            poses=np.zeros((1 + count, 3), np.float32),
            valid=np.concatenate([[True], indices >= 0]),
        )

    def end(self, job):
        [section] = self.model.finish([job])
        self.chunks = np.concatenate([self.chunks, section.latents])
        return self.model.decode([self.state], [section])[0]


def play(*players, sections, controls=REST):
    """The frames of each player, all stepping together."""
    shown = [[] for _ in players]
    for _ in range(sections):
        jobs = [player.model.begin([player.state], [controls], [player.history])[0] for player in players]
        while jobs[0].steps_left:
            players[0].model.advance(jobs)
        for frames, player, job in zip(shown, players, jobs, strict=True):
            frames.append(player.end(job))
    return [np.concatenate(frames) for frames in shown]
