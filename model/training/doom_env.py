"""Two levels of Doom with nobody else in them, moved through as through `rooms`: the second domain."""

import math
import os
from contextlib import chdir
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
from PIL import Image
from vizdoom import Button, DoomGame, GameVariable, Mode, ScreenFormat, ScreenResolution, scenarios_path

from ..rooms.camera import Camera
from .doom_level import STRETCH, UNITS_PER_METRE, inverse_depth, read_level
from .ways import Ways

LEVELS = {"my-way-home": "my_way_home.wad", "deathmatch": "deathmatch.wad"}
CAMERA = Camera()

_TICS = 2  # of 1/35 s, for one frame
_FRICTION = 0.90625  # share of its speed that the player keeps from tic to tic
_PUSH = 1 / 32  # units per tic that one unit of a movement button adds to the speed
_TURN = 180 / 32768  # degrees, the engine's finest
_WIDTH, _HEIGHT = 512, 384  # as rendered, before it is cropped and shrunk
_FOV = 92.0  # degrees across _WIDTH; the engine takes whole degrees, so the crop makes it the camera's
_SETTLING_TICS = 30  # until the field of view is what was asked for
_CLEARANCE = 0.7  # metres: the player is a square whose corners are this far from its middle
_BUTTONS = (Button.MOVE_FORWARD_BACKWARD_DELTA, Button.MOVE_LEFT_RIGHT_DELTA, Button.TURN_LEFT_RIGHT_DELTA)


class DoomEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One of LEVELS, without monsters and things to pick up; the seed is where one begins.

    Actions, poses and depth are those of `RoomsEnv`: frames are of its camera, steps and turns as wide. The engine's
    inertia is steered against, so that a frame's control leads as far as there, but for what is in the way.
    """

    def __init__(self, level: str, size: int = 128, *, depth: bool = False) -> None:
        if level not in LEVELS:
            raise ValueError(f"expected a level of {', '.join(LEVELS)}, got {level!r}")
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.has_depth, self._size, self._heading = depth, size, 0.0
        self._game = _started(LEVELS[level])
        self._level = read_level(self._game.get_state().sectors)
        self._ways = Ways(self._level.barriers, clearance=_CLEARANCE)

    @property
    def pose(self) -> np.ndarray:
        """x, y in metres, and the heading in radians, counter-clockwise and not wrapped."""
        x, y = self._told(GameVariable.POSITION_X), self._told(GameVariable.POSITION_Y)
        return np.array([x / UNITS_PER_METRE, y / UNITS_PER_METRE, self._heading])

    @property
    def walls(self) -> np.ndarray:
        """What ends a view: segments (n, 2, 2) in metres."""
        return self._level.walls(CAMERA.height)

    def random_place(self, rng: np.random.Generator) -> np.ndarray:
        """Somewhere to go (2,)."""
        return self._ways.random_place(rng, start=self.pose[:2])

    def way_to(self, goal: np.ndarray) -> list[np.ndarray]:
        """Corners on the way to `goal` (2,)."""
        return self._ways.way(self.pose[:2], goal)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._game.set_seed(int(self.np_random.integers(2**31)))
        self._empty()
        place, turn = self.random_place(self.np_random), self.np_random.uniform(-180.0, 180.0)
        x, y = place * UNITS_PER_METRE
        self._game.send_game_command(f"warp {x:.3f} {y:.3f}")
        self._game.make_action([0.0, 0.0, turn], 1)
        self._game.make_action([0.0, 0.0, 0.0], _SETTLING_TICS)
        self._heading = math.radians(self._told(GameVariable.ANGLE))
        return self.render_obs(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        move, strafe, turn = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        turned = round(math.degrees(CAMERA.turn) * turn / _TURN)
        heading = self._heading - math.radians(turned * _TURN)
        ahead = np.array([math.cos(heading), math.sin(heading)])
        right = np.array([ahead[1], -ahead[0]])
        wanted = CAMERA.step * UNITS_PER_METRE * (move * ahead + strafe * right)
        speed = np.array([self._told(GameVariable.VELOCITY_X), self._told(GameVariable.VELOCITY_Y)])
        push = (wanted - (1 + _FRICTION) * speed) / (2 + _FRICTION) / _PUSH  # the same in both tics
        buttons = [_rounded(push @ ahead), _rounded(push @ right)]
        self._game.set_action([*buttons, (turned + 0.5) * _TURN])  # the engine rounds down
        self._game.advance_action(1, False)
        self._game.make_action([*buttons, 0.0], _TICS - 1)
        self._heading += _wrapped(math.radians(self._told(GameVariable.ANGLE)) - self._heading)
        return self.render_obs(), 0.0, False, self._game.is_episode_finished(), self._info()

    def render_obs(self) -> np.ndarray:
        """The frame seen from where the player stands: (size, size, 3) uint8."""
        half = _WIDTH / 2 * CAMERA.edge / math.tan(math.radians(_FOV / 2))
        box = (_WIDTH / 2 - half, _HEIGHT / 2 - half, _WIDTH / 2 + half, _HEIGHT / 2 + half)
        screen = Image.fromarray(self._game.get_state().screen_buffer)
        return np.asarray(screen.resize((self._size, self._size), Image.Resampling.BOX, box=box))

    def inverse_depth(self) -> np.ndarray:
        """1 / distance along the view, (size // 2, size // 2) float16 in 1/m."""
        eye = self._told(GameVariable.CAMERA_POSITION_Z) * STRETCH / UNITS_PER_METRE
        depth = inverse_depth(self._level, self.pose, eye=eye, edge=CAMERA.edge, size=self._size // 2)
        return depth.astype(np.float16)

    def close(self) -> None:
        self._game.close()

    def _empty(self) -> None:
        """Begin the level anew, with everything gone that could be picked up."""
        self._game.new_episode()
        for name in sorted({thing.name for thing in self._game.get_state().objects} - {"DoomPlayer"}):
            self._game.send_game_command(f"remove {name}")
        self._game.send_game_command(f"fov {_FOV:.0f}")

    def _info(self) -> dict[str, Any]:
        return {"pose": self.pose} | ({"depth": self.inverse_depth()} if self.has_depth else {})

    def _told(self, variable: GameVariable) -> float:
        return float(self._game.get_game_variable(variable))


def _started(wad: str) -> DoomGame:
    """The engine, silent and without a window, showing nothing but the level."""
    game = DoomGame()
    game.set_doom_scenario_path(f"{scenarios_path}/{wad}")
    game.set_doom_config_path(os.devnull)
    game.set_mode(Mode.PLAYER)
    game.set_screen_resolution(ScreenResolution.RES_512X384)
    game.set_screen_format(ScreenFormat.RGB24)
    for show in (
        game.set_render_hud, game.set_render_weapon, game.set_render_crosshair, game.set_render_decals,
        game.set_render_particles, game.set_render_effects_sprites, game.set_render_messages,
        game.set_render_screen_flashes, game.set_window_visible, game.set_sound_enabled,
    ):  # fmt: skip
        show(False)
    game.set_objects_info_enabled(True)
    game.set_sectors_info_enabled(True)
    game.set_available_buttons(list(_BUTTONS))
    for button in _BUTTONS:
        game.set_button_max_value(button, 0)  # no limit
    game.set_episode_timeout(0)
    game.add_game_args("-nomonsters +sv_cheats 1 +movebob 0 +stillbob 0 +turbo 255")
    with TemporaryDirectory() as folder, chdir(folder):  # it would make one of its own wherever we are
        game.init()
    return game


def _rounded(push: float) -> float:
    """For an engine that rounds down."""
    return round(push) + 0.5


def _wrapped(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
