import numpy as np
import pytest

from model.evaluation.rows import rows
from model.evaluation.tables import Found, markdown, plot_tables, rank_correlation, verdicts
from model.evaluation.trials import Result

SHARP = ("sharp_at_start", "sharp_at_end")
MEASURES = (*SHARP, "pooled.sharpness", "mean", "spread", "motion_ratio", "collapsed", "psnr", "revisit", "own_revisit")


def result(drift: float, *, motion: float = 1.0, revisit: float = 20.0) -> Result:
    figures = {name: [[1.0, 3.0], [2.0, 4.0]] for name in MEASURES} | {"sharpness": [[drift, drift], [drift, drift]]}
    figures |= {"motion_ratio": [[motion] * 2] * 2, "revisit": [[revisit, np.nan]] * 2, "sharpness_truth": [[0.01] * 2]}
    return Result("", 96, 50.0, figures)


def found(**drifts: float | None) -> Found:
    """Rows whose names have a word, with their drift; `None` for rows that lack their fine-tuning."""
    made = {}
    for row in rows():
        for word, drift in drifts.items():
            if word.replace("_", " ") in row.name.replace("+", "").replace("-", " "):
                made[row.part, row.name] = row, None if drift is None else result(drift)
    return made


def test_figures_are_means_over_seeds_with_their_deviation() -> None:
    one = result(0.1)
    assert one.over_seeds("mean") == pytest.approx((2.5, np.std([2, 3], ddof=1)))
    assert one.over_seeds("revisit") == pytest.approx((20.0, 0.0))
    assert np.isnan(Result("", 1, 1.0, {"x": [[np.nan]]}).over_seeds("x")[0])


def test_a_row_has_its_figures_its_weights_and_what_was_published() -> None:
    text = markdown(found(anchor_frames=0.05, guidance=None), about="Of nothing.")
    [line] = [line for line in text.splitlines() if line.startswith("| anchor frames")]
    assert "| shipped | 5.00 ± 0.00 | 250.00 ± 70.71 |" in line
    assert line.endswith("| 96 | 50 | 2.85 | 74.97 | 1173 |")
    [missing] = [line for line in text.splitlines() if line.startswith("| history guidance")]
    assert "needs" in missing and missing.endswith("| 7.35 | 73.39 | 1152 |")
    assert "| the recorded walks | - | 1.00 |" in text and "Of nothing." in text
    assert "- history guidance 1.5: of the packed history" in text


def test_verdicts_say_where_the_order_is_not_the_papers() -> None:
    made = dict(found(geometric=0.2, temporal_kernel=0.3))
    row, _ = made["schedules", "geometric+D"]
    made["schedules", "geometric+D"] = row, result(0.1)
    said = {claim: (here, agrees) for claim, here, agrees in verdicts(made)}
    assert said["+D drifts less than vanilla"] == ("with 1 of 2 schedules, by weights that never learned it", "no")
    row, _ = made["schedules", "temporal-kernel+D"]
    made["schedules", "temporal-kernel+D"] = row, result(0.1)
    for name in ("geometric inverted", "temporal-kernel inverted"):
        made["schedules", name] = made["schedules", name][0], result(0.1, motion=0.5)
    said = {claim: (here, agrees) for claim, here, agrees in verdicts(made)}
    assert said["+D drifts less than vanilla"][1] == "yes"
    assert said["inverted moves less than vanilla (89.29 % against 92.91 % dynamic)"] == (
        "with 2 of 2 schedules",
        "yes",
    )


def test_the_noise_sweep_is_judged_only_as_a_whole() -> None:
    claim = "more noise on history drifts less (as trained)"
    made = dict(found(as_trained=0.3))
    for name, drift in (("noise 0.1, as trained", 0.2), ("noise 0.5, as trained", 0.1)):
        made["alternatives", name] = made["alternatives", name][0], result(drift)
    assert (claim, "30.0 % > 20.0 % > 10.0 %", "yes") in list(verdicts(made))
    made["alternatives", "noise 0.5, as trained"] = made["alternatives", "noise 0.5, as trained"][0], result(0.4)
    assert (claim, "30.0 %, 20.0 %, 40.0 %", "no") in list(verdicts(made))
    del made["alternatives", "noise 0.1, as trained"]
    assert claim not in [said[0] for said in verdicts(made)]


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 99]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0
    assert rank_correlation([1, 2, 2, 3], [1, 2, 2, 3]) == pytest.approx(1)


def test_plots_are_of_what_there_is(tmp_path) -> None:
    plot_tables(found(geometric=0.1), tmp_path)
    assert list(tmp_path.iterdir()) == []
    plot_tables(found(as_trained=0.3, untrained=0.2), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codebooks.png", "noise.png"]
