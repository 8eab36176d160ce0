import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.training.loop import Run, fit


def train(folder: Path, steps: int, *, stop_at: int | None = None, save: float = 0) -> nn.Module:
    """Fit a line; raises KeyboardInterrupt at `stop_at`."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    truth = torch.tensor([[1.0, -2.0, 0.5]])

    def loss(model: nn.Module, step: int) -> dict[str, Tensor]:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        return {"loss": (model(x) - x @ truth.T).square().mean()}

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0)
    run = Run(folder, steps, warmup=5, ema=0.9, checkpoint_every=save, sample_every=50)
    return fit(run, model, optimizers=[optimizer], loss=loss, sample=lambda _model, path: path.write_text("drawn"))


def test_it_learns_logs_and_draws(tmp_path: Path) -> None:
    learned = train(tmp_path, 100, save=3600)
    assert isinstance(learned, nn.Linear)
    torch.testing.assert_close(learned.weight.data, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.05, rtol=0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [25, 50, 75, 100]
    assert lines[-1]["loss"] < 0.05 * lines[0]["loss"]
    assert sorted(path.name for path in tmp_path.glob("sample_*")) == ["sample_0000050.png", "sample_0000100.png"]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 60)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", 60, stop_at=37)
    resumed = train(tmp_path / "killed", 60)
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
