"""What the Python client says of its latency."""

from client_demo.latencies import MOST_ASKED, MOST_REPORTED, Latencies


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def test_an_input_is_answered_by_the_first_frame_that_has_it_or_a_later_one() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    for seq in (1, 2, 3):
        latencies.asked(seq)
        clock.now += 0.01
    latencies.shown(0)
    latencies.shown(2)
    clock.now += 0.02
    latencies.shown(2)
    assert latencies.due() == []  # too early
    clock.now += 1.0
    assert [round(ms) for ms in latencies.due()] == [30, 20]
    latencies.shown(9)
    assert latencies.due() == []
    clock.now += 1.0
    assert [round(ms) for ms in latencies.due()] == [1030]
    clock.now += 1.0
    assert latencies.due() == []


def test_it_is_bounded_and_says_the_newest() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    for seq in range(10 * MOST_ASKED):
        latencies.asked(seq)
    assert len(latencies._asked) == MOST_ASKED
    for seq in range(MOST_ASKED):
        clock.now += 1.0
        latencies.shown(seq)
    assert latencies.due() == [1000 * min(60.0, float(seq + 1)) for seq in range(MOST_ASKED)][-MOST_REPORTED:]
