"""The benchmark runs and gives the keys that it documents."""

import json

from tests.memory_bank.bench_recall import main


def test_the_benchmark_gives_a_positive_figure_for_each_documented_key(capsys):
    main(["--json", "--entries", "50", "--key-sizes", "16", "32"])
    figures = json.loads(capsys.readouterr().out)
    whats = ("search", "sequel", "view", "pose", "hybrid", "remember")
    assert list(figures) == [f"{what}_us.n50.d{size}" for size in (16, 32) for what in whats]
    assert all(0 < figure < 1e6 for figure in figures.values())
