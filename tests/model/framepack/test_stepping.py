"""Steps together: who shares a forward pass, and who is left alone."""

from dataclasses import dataclass

import torch

from model.framepack.network import Row
from model.framepack.stepping import step_all


@dataclass
class Context:
    layout: str


@dataclass
class Counting:
    """A sampling that adds up what it is answered."""

    number: int
    context: Context
    steps_left: int = 1
    total: float = 0.0

    def row(self):
        return Row(torch.full((1, 1), float(self.number)), torch.tensor(1.0), self.context, None)

    def take(self, velocity):
        assert velocity.shape == (1, 1)
        self.total += velocity.item()
        self.steps_left -= 1


class Echo:
    """A network that answers each row with ten times its number."""

    def __init__(self):
        self.batches = []

    def velocity(self, rows):
        self.batches.append([int(row.noisy) for row in rows])
        return 10 * torch.cat([row.noisy for row in rows])


def test_rows_of_one_layout_share_a_pass_and_get_their_own_answers():
    jobs = [Counting(i, Context("old" if i % 2 else "young"), steps_left=2) for i in range(5)]
    network = Echo()
    step_all(network, jobs)
    assert sorted(network.batches) == [[0, 2, 4], [1, 3]]
    assert [job.total for job in jobs] == [0, 10, 20, 30, 40]
    assert all(job.steps_left == 1 for job in jobs)


def test_a_job_at_its_end_is_left_alone():
    done, going = Counting(1, Context("a"), steps_left=0), Counting(2, Context("a"))
    network = Echo()
    step_all(network, [done, going])
    assert network.batches == [[2]]
    step_all(network, [done, going])
    assert network.batches == [[2]]
    assert (done.total, going.total) == (0, 20)
