"""Controls against what the player really did: whatever the network did to the messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from model.world_model import ControlAxis, ControlSchema
from server.controls import MAX_CARRY, MAX_TAPS, Controls
from server.protocol import Input, ProtocolError

SCHEMA = ControlSchema(
    axes=(
        ControlAxis("move", keys=(("KeyW", 1.0), ("KeyS", -1.0), ("ArrowUp", 0.5))),
        ControlAxis("turn", keys=(("ArrowLeft", -1.0),), pointer="x", pointer_gain=0.125),
        ControlAxis("fire", keys=(("Space", 1.0),)),
    )
)


def controls(*messages: Input) -> Controls:
    made = Controls(SCHEMA)
    for i, message in enumerate(messages):
        made.receive(message, float(i))
    return made


def frames(made: Controls, count: int) -> np.ndarray:
    return np.stack([made.take(0.0).vector for _ in range(count)])


def test_rest_before_any_input() -> None:
    applied = Controls(SCHEMA).take(5.0)
    assert applied.vector.dtype == np.float32
    assert applied.vector.tolist() == [0.0, 0.0, 0.0]
    assert (applied.seq, applied.t_applied) == (-1, 5.0)


def test_held_keys_act_every_frame_until_released() -> None:
    made = controls(Input(seq=1, keys=["KeyW"], presses={"KeyW": 1}))
    assert frames(made, 3)[:, 0].tolist() == [1, 1, 1]
    made.receive(Input(seq=2, presses={"KeyW": 1}), 1.0)
    assert frames(made, 2)[:, 0].tolist() == [0, 0]


def test_keys_and_axes_of_one_component_add_up_within_its_range() -> None:
    assert controls(Input(seq=0, keys=["KeyW", "KeyS", "ArrowUp"])).take(0.0).vector[0] == 0.5
    assert controls(Input(seq=0, keys=["ArrowUp"], axes={"move": -0.25})).take(0.0).vector[0] == 0.25
    assert controls(Input(seq=0, keys=["KeyW"], axes={"move": 1.0})).take(0.0).vector[0] == 1.0


def test_a_tap_shorter_than_a_frame_acts_for_one_frame() -> None:
    made = controls(
        Input(seq=1, keys=["Space"], presses={"Space": 1}),
        Input(seq=2, presses={"Space": 1}),
    )
    assert frames(made, 3)[:, 2].tolist() == [1, 0, 0]


def test_a_tap_whose_messages_were_lost_still_acts() -> None:
    made = controls(Input(seq=9, presses={"Space": 1}))
    assert frames(made, 2)[:, 2].tolist() == [1, 0]


def test_a_tap_of_a_client_that_counts_no_presses() -> None:
    made = controls(Input(seq=1, keys=["Space"]), Input(seq=2))
    assert frames(made, 2)[:, 2].tolist() == [1, 0]


def test_a_total_left_out_of_a_message_is_unchanged() -> None:
    made = controls(Input(seq=1, presses={"Space": 1}), Input(seq=2), Input(seq=3, presses={"Space": 2}))
    assert frames(made, 4)[:, 2].sum() == 2


def test_taps_that_wait_are_bounded() -> None:
    assert frames(controls(Input(seq=1, presses={"Space": 1_000})), 20)[:, 2].sum() == MAX_TAPS


def test_pointer_motion_beyond_a_frame_is_carried_over() -> None:
    made = controls(Input(seq=1, pointer=(20.0, 3.0)))  # 2.5 frames of full turn
    assert frames(made, 4)[:, 1].tolist() == [1.0, 1.0, 0.5, 0.0]


def test_pointer_motion_waits_while_a_key_fills_the_axis() -> None:
    made = controls(Input(seq=1, keys=["ArrowLeft"], pointer=(-4.0, 0.0)))
    assert frames(made, 2)[:, 1].tolist() == [-1, -1]
    made.receive(Input(seq=2, pointer=(-4.0, 0.0)), 0.0)
    assert frames(made, 2)[:, 1].tolist() == [-0.5, 0]


def test_carried_motion_is_bounded() -> None:
    made = controls(Input(seq=1, pointer=(1e9, 0.0)))
    assert frames(made, 50)[:, 1].sum() == MAX_CARRY


def test_the_receipt_names_the_newest_input_and_its_first_arrival() -> None:
    made = controls(Input(seq=4, ts=40.0), Input(seq=6, ts=60.0), Input(seq=5, ts=50.0), Input(seq=6, ts=60.0))
    applied = made.take(7.0)
    assert (applied.seq, applied.client_ts, applied.t_recv, applied.t_applied) == (6, 60.0, 1.0, 7.0)


def test_hand_over_lets_go_and_counts_anew() -> None:
    made = controls(Input(seq=900, keys=["KeyW"], presses={"Space": 3}, pointer=(80.0, 0.0)))
    made.hand_over()
    assert not frames(made, 2).any()
    made.receive(Input(seq=0, presses={"Space": 1}, pointer=(8.0, 0.0)), 1.0)
    assert frames(made, 2).tolist() == [[0, 1, 1], [0, 0, 0]]


def test_an_axis_that_does_not_exist_is_refused_and_changes_nothing() -> None:
    made = controls(Input(seq=1, axes={"turn": 0.5}))
    with pytest.raises(ProtocolError, match=r"expected axes of \['fire', 'move', 'turn'\], got \['jump'\]") as refusal:
        made.receive(Input(seq=2, axes={"jump": 1.0}), 0.0)
    assert refusal.value.code == "input.axis"
    assert made.take(0.0).vector[1] == 0.5


def test_keys_that_steer_nothing_are_ignored() -> None:
    assert not controls(Input(seq=1, keys=["KeyQ"], presses={"KeyQ": 4})).take(0.0).vector.any()


@given(
    moves=st.lists(st.integers(-2, 2), min_size=1, max_size=12),
    taps=st.lists(st.booleans(), min_size=12, max_size=12),
    data=st.data(),
)
def test_loss_reorder_and_repetition_change_nothing_in_the_end(
    moves: list[int], taps: list[bool], data: st.DataObject
) -> None:
    """However the earlier messages fared: once the last is in, all that was done has come out."""
    sent = [
        Input(seq=i, pointer=(float(sum(moves[: i + 1])), 0.0), presses={"Space": sum(taps[: i + 1])})
        for i in range(len(moves))
    ]
    made = Controls(SCHEMA)
    out = []
    for i in data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=30)):
        made.receive(sent[i], 0.0)
        out.append(made.take(0.0).vector)
    made.receive(sent[-1], 0.0)
    out.extend(frames(made, int(MAX_CARRY) + MAX_TAPS))
    total = np.sum(out, axis=0)
    assert total[1] == pytest.approx(0.125 * sum(moves), abs=1e-5)
    presses = sum(taps[: len(moves)])
    assert min(presses, MAX_TAPS) <= total[2] <= presses
    assert np.abs(out).max() <= 1.0


class Player(RuleBasedStateMachine):
    """A player on a lossy network, with frames taken in between; one who keeps within the bounds loses nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.controls = Controls(SCHEMA)
        self.seq = 0
        self.pointer = self.turned = 0.0
        self.down = False
        self.presses = self.owed = 0
        self.network: list[Input] = []

    @rule(pixels=st.integers(-4, 4))
    def look(self, pixels: int) -> None:
        if abs(0.125 * (self.pointer + pixels) - self.turned) <= MAX_CARRY:
            self.pointer += pixels
            self.send()

    @rule()
    def press_or_release(self) -> None:
        self.down = not self.down
        if self.down:
            self.presses += 1
            self.owed += 1
        self.send()

    def send(self) -> None:
        self.seq += 1
        keys = ["KeyW"] if self.down else []
        self.network.append(Input(seq=self.seq, keys=keys, presses={"KeyW": self.presses}, pointer=(self.pointer, 0.0)))

    @rule(data=st.data())
    def deliver_any(self, data: st.DataObject) -> None:
        if self.network:
            self.controls.receive(data.draw(st.sampled_from(self.network)), 0.0)

    @rule()
    def take_after_the_newest_came(self) -> None:
        if not self.network:
            return
        self.controls.receive(self.network[-1], 0.0)
        vector = self.controls.take(0.0).vector
        self.turned += float(vector[1])
        if self.down or self.owed:
            assert vector[0] == 1.0
        else:
            assert vector[0] == 0.0
        self.owed = max(0, min(self.owed, MAX_TAPS) - 1)

    def teardown(self) -> None:
        if self.network:
            self.controls.receive(self.network[-1], 0.0)
        rest = frames(self.controls, int(MAX_CARRY) + MAX_TAPS)
        assert self.turned + rest[:, 1].sum() == pytest.approx(0.125 * self.pointer, abs=1e-4)
        assert (rest[-1, 0] == 1.0) == self.down


TestPlayer = Player.TestCase
