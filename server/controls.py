"""What a player's hands do, made into one control vector per world frame; nothing they did is lost."""

from dataclasses import dataclass

import numpy as np

from model.world_model import ControlSchema

from .protocol import Input, ProtocolError

MAX_CARRY = 8.0  # axis units of pointer motion kept for later frames: a flick turns on for so many frames at most
MAX_TAPS = 4  # presses of one key that still wait for their frame

_NOTHING = Input(seq=-1)


@dataclass(frozen=True, slots=True)
class Applied:
    """The control of one world frame, and the input that it answers (`seq` is -1 before any)."""

    vector: np.ndarray  # (A,) float32 in [-1, 1]
    seq: int
    client_ts: float  # of that input, on the client's clock
    t_recv: float  # when that input first came, on the clock given to `receive`
    t_applied: float  # when `take` bound it


class Controls:
    """The controls of one session as its player last stated them.

    Every `Input` is the full state, with totals for what is over in an instant, so that any later message
    makes up for lost ones. A key pressed and released between two frames still acts for one frame. Pointer
    motion that does not fit into one frame's [-1, 1] is carried to the next, at most `MAX_CARRY`.
    """

    def __init__(self, schema: ControlSchema) -> None:
        axes = schema.axes
        self._index = {axis.name: i for i, axis in enumerate(axes)}
        self._by_key = {code: np.zeros(len(axes), np.float32) for axis in axes for code, _ in axis.keys}
        for i, axis in enumerate(axes):
            for code, value in axis.keys:
                self._by_key[code][i] = value
        self._gain = np.array([[axis.pointer_gain * (axis.pointer == side) for side in "xy"] for axis in axes])
        self.hand_over()

    def hand_over(self) -> None:
        """Let everything go: the next input is a new player's first, and its totals count from zero."""
        self._newest = _NOTHING
        self._t_recv = 0.0
        self._presses = dict.fromkeys(self._by_key, 0)
        self._taps = dict.fromkeys(self._by_key, 0)
        self._motion = np.zeros(len(self._index))

    def receive(self, message: Input, now: float) -> None:
        """Take note of one input in any order; old and repeated ones change nothing.

        Keys that steer nothing are ignored (a page may report all it sees). Raises ProtocolError with the
        code `input.axis` for an axis that the schema does not have.
        """
        if unknown := message.axes.keys() - self._index.keys():
            raise ProtocolError("input.axis", f"expected axes of {sorted(self._index)}, got {sorted(unknown)}")
        if message.seq <= self._newest.seq:
            return
        before, self._newest, self._t_recv = self._newest, message, now
        for code, total in self._presses.items():
            self._presses[code] = message.presses.get(code, total)
            # a client that counts no presses is believed when it says that a key is newly held
            newly_held = code in message.keys and code not in before.keys
            presses = max(self._presses[code] - total, int(newly_held))
            self._taps[code] = min(MAX_TAPS, self._taps[code] + presses)
        pixels = np.subtract(message.pointer, before.pointer)
        self._motion = np.clip(self._motion + self._gain @ pixels, -MAX_CARRY, MAX_CARRY)

    def take(self, now: float) -> Applied:
        """The control of the next world frame; call it once per frame, as late as possible."""
        vector = np.zeros(len(self._index))
        for code, value in self._by_key.items():
            if code in self._newest.keys or self._taps[code] > 0:
                vector += value
            self._taps[code] = max(0, self._taps[code] - 1)
        for name, stated in self._newest.axes.items():
            vector[self._index[name]] += stated
        vector = np.clip(vector, -1.0, 1.0)
        used = np.clip(self._motion, -1.0 - vector, 1.0 - vector)
        self._motion -= used
        newest = self._newest
        return Applied((vector + used).astype(np.float32), newest.seq, newest.ts, self._t_recv, now)
