"""Procedural floor plans for MiniWorld: the world that the `rooms` model learns."""

import math
from typing import Any

import gymnasium
import numpy as np
import pyglet

pyglet.options["headless"] = True  # must precede miniworld, which opens a GL context at import

from miniworld.entity import Ball, Box, Entity, ImageFrame, MeshEnt  # noqa: E402
from miniworld.miniworld import MiniWorldEnv, Room  # noqa: E402
from miniworld.opengl import Texture  # noqa: E402
from miniworld.params import DEFAULT_PARAMS  # noqa: E402
from miniworld.utils import get_file_path  # noqa: E402
from pyglet.gl import (  # noqa: E402
    GL_POLYGON,
    GL_QUADS,
    glBegin,
    glColor3f,
    glEnd,
    glNormal3f,
    glTexCoord2f,
    glVertex3f,
)

from .textures import decode_quickly  # noqa: E402

FRAMES_PER_SECOND = 15
FOV_DEGREES = 75.0
METRES_PER_FRAME = 0.16  # displacement at move = 1
DEGREES_PER_FRAME = 6.0  # rotation at turn = 1
NEAR, FAR = 0.04, 100.0  # metres, of what MiniWorld renders
NEAREST = 0.05  # metres that inverse depth tells apart

WALLS = (
    "brick_wall cinder_blocks concrete drywall stucco wood_planks marble rock cardboard "
    "concrete_tiles wood ceiling_tiles"
).split()
FLOORS = (
    "asphalt grass floor_tiles_bw floor_tiles_white wood wood_planks marble concrete_tiles concrete water slime lava"
).split()
CEILINGS = "ceiling_tiles ceiling_tile_noborder concrete concrete_tiles drywall stucco wood marble".split()
MESHES = {
    "duckie": (0.5, 1.1),
    "cone": (0.6, 1.0),
    "barrel": (0.8, 1.2),
    "medkit": (0.4, 0.7),
    "office_chair": (0.9, 1.2),
    "office_desk": (0.7, 0.9),
    "tree": (1.6, 2.4),
    "potion": (0.5, 0.9),
}
BALL_COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
PORTRAITS = (
    "antonello_messina1 cranach_lucas2 domenikos_theotokopoulos1 francisco_zurbaran1 hans_holbein1 parmigianino1 "
    "john_william_godward1 paolo_veronese1 velazquez_diego1 viktor_vasnetsov1 byron1 francisco_goya_lucientes1"
).split()
decode_quickly()
Texture.tex_paths |= {  # files that MiniWorld ships but whose names its own look-up cannot form
    name: [get_file_path("textures", name, "png")]
    for name in [*(f"portraits/{portrait}" for portrait in PORTRAITS), "floor_tiles_white"]
}


class TintedRoom(Room):  # type: ignore[misc]
    """A room whose floor, walls and ceiling carry a colour of their own and coarser textures."""

    tints: np.ndarray  # (3, 3): floor, walls, ceiling; RGB in [0, 1]
    texture_scale: float
    floor_texcs: np.ndarray  # (n, 2)
    ceil_texcs: np.ndarray
    wall_texcs: np.ndarray

    def _gen_static_data(self, params: Any, rng: Any) -> None:
        super()._gen_static_data(params, rng)
        self.floor_texcs = self.floor_texcs * self.texture_scale
        self.ceil_texcs = self.ceil_texcs * self.texture_scale
        self.wall_texcs = self.wall_texcs * self.texture_scale

    def _render(self) -> None:
        _polygon(self.floor_tex, self.tints[0], (0, 1, 0), self.floor_texcs, self.floor_verts)
        _polygon(self.ceil_tex, self.tints[2], (0, -1, 0), self.ceil_texcs, self.ceil_verts)
        glColor3f(*self.tints[1])
        self.wall_tex.bind()
        glBegin(GL_QUADS)
        for normal, texc, vertex in zip(self.wall_norms, self.wall_texcs, self.wall_verts, strict=True):
            glNormal3f(*normal)
            glTexCoord2f(*texc)
            glVertex3f(*vertex)
        glEnd()


def _polygon(
    texture: Any, tint: np.ndarray, normal: tuple[int, int, int], texcs: np.ndarray, verts: np.ndarray
) -> None:
    glColor3f(*tint)
    texture.bind()
    glBegin(GL_POLYGON)
    glNormal3f(*normal)
    for texc, vertex in zip(texcs, verts, strict=True):
        glTexCoord2f(*texc)
        glVertex3f(*vertex)
    glEnd()


class RoomsEnv(MiniWorldEnv):  # type: ignore[misc]
    """Three to nine rooms and corridors, new for every seed.

    Actions are `(move, strafe, turn)`, each in [-1, 1] per frame; positive is forward, right and to
    the right. A wall stops the component of the motion that runs into it. `info["pose"]` is
    `(x, y, heading)` in metres and radians, counter-clockwise, seen from above; `info["depth"]`, with `depth`
    only, is what `inverse_depth` returns.
    """

    def __init__(self, size: int = 128, *, depth: bool = False) -> None:
        self.has_depth = depth  # first, since MiniWorld resets at once
        params = DEFAULT_PARAMS.copy()
        for name, value in {
            "cam_fov_y": FOV_DEGREES,
            "cam_pitch": 0,
            "cam_fwd_disp": 0,
            "cam_height": 1.5,
            "bot_radius": 0.4,
        }.items():
            params.set(name, value)
        super().__init__(
            obs_width=size, obs_height=size, window_width=8, window_height=8, params=params, domain_rand=True
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    @property
    def pose(self) -> np.ndarray:
        x, _, z = self.agent.pos
        return np.array([x, -z, self.agent.dir], np.float64)

    def set_pose(self, pose: np.ndarray) -> None:
        """Teleport, to render the ground truth at any pose."""
        x, y, heading = pose
        self.agent.pos = np.array([x, 0.0, -y])
        self.agent.dir = float(heading)

    @property
    def walls(self) -> np.ndarray:
        """What ends a view: segments (n, 2, 2) in metres, of the poses' x and y."""
        return self.wall_segs[:, :, [0, 2]] * (1, -1)  # type: ignore[no-any-return]

    def random_place(self, rng: np.random.Generator) -> np.ndarray:
        """Somewhere to go (2,), not close to a wall."""
        room = list(self.cells.values())[int(rng.integers(len(self.cells)))]
        return np.array([rng.uniform(room.min_x + 1, room.max_x - 1), -rng.uniform(room.min_z + 1, room.max_z - 1)])

    def way_to(self, goal: np.ndarray) -> list[np.ndarray]:
        """Doors on the shortest way, in number of rooms, from where the agent stands to `goal` (2,)."""
        start, end = self._cell_at(self.pose[:2]), self._cell_at(goal)
        paths: dict[tuple[int, int], list[np.ndarray]] = {start: []}
        queue = [start]
        for cell in queue:
            for (a, b), door in self.doors.items():
                if a == cell and b not in paths:
                    paths[b] = [*paths[a], door]
                    queue.append(b)
        return paths.get(end, [])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        obs, info = super().reset(seed=seed, options=options)
        return obs, info | self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        move, strafe, turn = np.clip(action, -1.0, 1.0)
        self.agent.dir -= math.radians(DEGREES_PER_FRAME) * turn
        step = METRES_PER_FRAME * (self.agent.dir_vec * move + self.agent.right_vec * strafe)
        for part in (step, step * (1, 0, 0), step * (0, 0, 1)):
            if not self.intersect(self.agent, self.agent.pos + part, self.agent.radius):
                self.agent.pos = self.agent.pos + part
                break
        return self.render_obs(), 0.0, False, False, self._info()

    def inverse_depth(self) -> np.ndarray:
        """1 / distance along the view, (size // 2, size // 2) float16 in 1/m, of the frame that was rendered last."""
        depth = self.obs_fb.get_depth_map(NEAR, FAR)[..., 0]
        n = len(depth) // 2
        inverse = 1 / np.maximum(depth[: 2 * n, : 2 * n], NEAREST)
        return inverse.reshape(n, 2, n, 2).mean((1, 3)).astype(np.float16)  # type: ignore[no-any-return]

    def _info(self) -> dict[str, Any]:
        return {"pose": self.pose} | ({"depth": self.inverse_depth()} if self.has_depth else {})

    def _cell_at(self, point: np.ndarray) -> tuple[int, int]:
        def outside(room: TintedRoom) -> float:
            dx = max(room.min_x - point[0], point[0] - room.max_x, 0)
            dz = max(room.min_z + point[1], -point[1] - room.max_z, 0)
            return float(dx + dz)

        return min(self.cells, key=lambda cell: outside(self.cells[cell]))

    def _gen_world(self) -> None:
        rng = self.np_random
        self.cells = self._place_rooms(rng)
        self.doors: dict[tuple[tuple[int, int], tuple[int, int]], np.ndarray] = {}
        for a, b in _passages(list(self.cells), rng):
            self._connect(a, b, rng)
        for room in list(self.cells.values()):
            self._furnish(room, rng)
        self.place_agent()

    def _place_rooms(self, rng: np.random.Generator) -> dict[tuple[int, int], TintedRoom]:
        columns, rows = (int(n) for n in rng.integers(2, 4, 2))
        kept = _connected_cells(columns, rows, int(rng.integers(3, columns * rows + 1)), rng)
        xs = np.concatenate([[0], np.cumsum(rng.uniform(4.0, 8.0, columns))])
        zs = np.concatenate([[0], np.cumsum(rng.uniform(4.0, 8.0, rows))])
        rooms = {}
        for i, j in kept:
            west, east = xs[i : i + 2] + rng.uniform(0.1, 0.7, 2) * (1, -1)
            north, south = zs[j : j + 2] + rng.uniform(0.1, 0.7, 2) * (1, -1)
            rooms[i, j] = self.add_rect_room(
                west, east, north, south,
                wall_tex=str(rng.choice(WALLS)), floor_tex=str(rng.choice(FLOORS)), ceil_tex=str(rng.choice(CEILINGS)),
                wall_height=float(rng.uniform(2.4, 3.4)),
            )  # fmt: skip
        return rooms

    def add_room(self, **kwargs: Any) -> TintedRoom:
        room = TintedRoom(**kwargs)
        self._paint(room)
        self.rooms.append(room)
        return room

    def _paint(self, room: Room) -> None:
        hue = self.np_random.uniform(0.35, 1.0, (3, 3))
        room.tints = np.clip(hue / hue.max(1, keepdims=True) * self.np_random.uniform(0.75, 1.15, (3, 1)), 0, 1)
        room.texture_scale = float(self.np_random.uniform(0.2, 0.4))

    def _connect(self, a: tuple[int, int], b: tuple[int, int], rng: np.random.Generator) -> None:
        one, two = self.cells[a], self.cells[b]
        axis = "z" if a[0] != b[0] else "x"
        low = max(getattr(one, f"min_{axis}"), getattr(two, f"min_{axis}")) + 0.2
        high = min(getattr(one, f"max_{axis}"), getattr(two, f"max_{axis}")) - 0.2
        width = min(float(rng.uniform(1.4, 2.4)), high - low)
        start = float(rng.uniform(low, high - width))
        span = {f"min_{axis}": start, f"max_{axis}": start + width}
        count = len(self.rooms)
        self.connect_rooms(one, two, max_y=float(rng.uniform(2.0, 2.3)), **span)
        for corridor in self.rooms[count:]:  # made by MiniWorld as a plain Room
            corridor.__class__ = TintedRoom
            corridor.tints, corridor.texture_scale = one.tints, one.texture_scale
        across = (one.max_x + two.min_x, one.max_z + two.min_z)[axis == "x"] / 2
        along = start + width / 2
        x, z = (across, along) if axis == "z" else (along, across)
        self.doors[a, b] = self.doors[b, a] = np.array([x, -z])

    def _furnish(self, room: TintedRoom, rng: np.random.Generator) -> None:
        for _ in range(int(rng.integers(1, 4))):
            entity = _landmark(rng)
            if 2 * entity.radius + 0.4 > min(room.max_x - room.min_x, room.max_z - room.min_z):
                continue
            door_distance = entity.radius + 1.3
            for _ in range(20):
                x = rng.uniform(room.min_x + entity.radius, room.max_x - entity.radius)
                z = rng.uniform(room.min_z + entity.radius, room.max_z - entity.radius)
                if all(np.hypot(x - d[0], z + d[1]) > door_distance for d in self.doors.values()):
                    self.place_entity(entity, pos=np.array([x, 0.0, z]), dir=float(rng.uniform(-math.pi, math.pi)))
                    break
        if rng.random() < 0.4:
            z = rng.uniform(room.min_z + 0.8, room.max_z - 0.8)
            spots = ((room.min_x, z, 0.0), (room.max_x, z, math.pi))
            x, z, heading = spots[int(rng.integers(2))]
            if all(np.hypot(x - d[0], z + d[1]) > 1.8 for d in self.doors.values()):
                self.entities.append(ImageFrame([x, 1.45, z], heading, f"portraits/{rng.choice(PORTRAITS)}", 1.2))


def _landmark(rng: np.random.Generator) -> Entity:
    kind = rng.random()
    if kind < 0.35:
        return Box(color=str(rng.choice(BALL_COLORS)), size=rng.uniform(0.5, 1.1, 3) * (1, 1.3, 1))
    if kind < 0.5:
        return Ball(color=str(rng.choice(BALL_COLORS)), size=float(rng.uniform(0.6, 1.0)))
    name = str(rng.choice(list(MESHES)))
    return MeshEnt(name, height=float(rng.uniform(*MESHES[name])))


def _connected_cells(columns: int, rows: int, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    kept = [(int(rng.integers(columns)), int(rng.integers(rows)))]
    while len(kept) < count:
        edge = [c for c in np.ndindex(columns, rows) if c not in kept and any(_adjacent(c, k) for k in kept)]
        kept.append(edge[int(rng.integers(len(edge)))])
    return sorted(kept)


def _adjacent(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1


def _passages(cells: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """A random spanning tree over neighbouring cells, and half of the remaining walls opened too."""
    walls = [(a, b) for a in cells for b in cells if a < b and _adjacent(a, b)]
    walls = [walls[i] for i in rng.permutation(len(walls))]
    group = {cell: {cell} for cell in cells}
    opened = []
    for a, b in walls:
        if group[a] is not group[b]:
            group[a] |= group[b]
            for cell in group[b]:
                group[cell] = group[a]
            opened.append((a, b))
        elif rng.random() < 0.5:
            opened.append((a, b))
    return opened
