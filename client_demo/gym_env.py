"""A served world as a Gymnasium environment, for agents that learn; the one file here that needs gymnasium."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from .client import Frame
from .sync_client import SyncClient

Info = dict[str, Any]


def no_reward(frame: Frame) -> float:
    """A generated world knows no goals: bring a reward of your own, made from the frames."""
    del frame
    return 0.0


class WorldEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observations are frames, (H, W, 3) uint8; an action is the control vector, held until the next one.

    The world goes on in real time between steps. A step returns the first frame that its action has reached,
    with `info["receipt"]` and `info["recalled"]`, the memories that the model reads with their scores. Episodes
    have no end of their own: wrap it in `gymnasium.wrappers.TimeLimit`.
    """

    metadata = {"render_modes": ["rgb_array"]}
    spec = EnvSpec("Rewander-v0", nondeterministic=True)  # time does not wait for the agent

    def __init__(self, url: str, *, reward: Callable[[Frame], float] = no_reward, **place: Any) -> None:
        """`url` ends in `/ws`; `place` has the fields of `client.Place`; pictures are lossless if it names no codec."""
        self._client = SyncClient(url, **place).__enter__()
        self._reward = reward
        welcome = self._client.client.welcome
        self._axes = self._client.client.axes
        self.render_mode = "rgb_array"
        self.metadata = {**self.metadata, "render_fps": welcome["frame_rate"]}
        shape = (welcome["height"], welcome["width"], 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(self._axes),), np.float32)
        self._frame: Frame

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Begin a new world: by `seed`, by chance, or from `options["image"]`, an encoded picture."""
        super().reset(seed=seed)
        start = {"seed": int(self.np_random.integers(2**31)) if seed is None else seed, **(options or {})}
        rest = np.zeros(len(self._axes))
        self._steer(rest)  # or the new world would begin with the last action of the old one
        self._client.send("reset", **start)
        self._frame = self._act(rest)
        return self._frame.pixels, self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        self._frame = self._act(action)
        return self._frame.pixels, self._reward(self._frame), False, False, self._info()

    def render(self) -> np.ndarray:
        return self._frame.pixels

    def close(self) -> None:
        self._client.__exit__()

    def _steer(self, action: np.ndarray) -> int:
        return self._client.steer(axes=dict(zip(self._axes, map(float, action), strict=True)))

    def _act(self, action: np.ndarray) -> Frame:
        seq = self._steer(action)
        return self._client.frame(lambda frame: frame.receipt.applied_seq >= seq)

    def _info(self) -> Info:
        recalled = self._client.client.recalled or {"ids": [], "scores": []}
        memories = dict(zip(recalled["ids"], recalled["scores"], strict=True))
        return {"receipt": asdict(self._frame.receipt), "recalled": memories}
