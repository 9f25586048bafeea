"""Run directories as they lie on disk, their rows made up: nothing is trained for a picture."""

import json
from pathlib import Path

import pytest

from made_runs import lines
from ptb import RunRecord


@pytest.fixture
def made(tmp_path):
    """Writes a run directory and gives its record."""

    def make(
        name="run",
        *,
        history=(),
        predictions=(),
        samples=(),
        split="test",
        seed=0,
        lr=0.001,
        target="class",
        summary=None,
        **data,
    ):
        folder = Path(tmp_path, name)
        folder.mkdir()
        (folder / "config.toml").write_text(
            f'seed = {seed}\n[model]\nname = "mlp"\n[optimizer]\nlr = {lr}\n[trainer]\nmonitor = "val/loss"\n'
        )
        sizes = {"train": 100, "val": 20, "test": len(predictions)}
        (folder / "manifest.json").write_text(json.dumps({"data": {"target": target, "samples": sizes, **data}}))
        if summary is not None:
            (folder / "summary.json").write_text(json.dumps(summary))
        lines(folder / "metrics.jsonl", history)
        lines(folder / f"predictions-{split}.jsonl", [{"step": 1, "sample": n, **p} for n, p in enumerate(predictions)])
        lines(folder / f"samples-{split}.jsonl", samples)
        return RunRecord(folder)

    return make
