"""Run directories as they lie on disk, their figures made up: for tests of what reads them."""

import json

RUN_ID = "0123456789abcdef"
CONFIG = """seed = 0
[model]
name = "mlp"
hidden = [8]
[optimizer]
name = "adam"
lr = 0.01
"""


def rows_of(epochs, steps=10, loss=lambda epoch: 1 / epoch):
    """The lines of ``metrics.jsonl`` of so many epochs."""
    for epoch in range(1, epochs + 1):
        row = {"step": epoch * steps, "epoch": epoch, "lr": 0.01}
        yield {**row, "split": "train", "values": {"loss": loss(epoch)}, "samples_per_second": 1000.0 + epoch}
        yield {**row, "split": "val", "values": {"loss": loss(epoch) * 2, "accuracy": 1 - loss(epoch) / 2}}


def append(run, *rows):
    with (run / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def end(run, status="finished", **facts):
    metrics = {"train/loss": 0.5, "test/loss": 0.25}
    summary = {"schema": 1, "status": status, "step": 20, "epoch": 2, "weights_sha256": "ab" * 32, "metrics": metrics}
    (run / "summary.json").write_text(json.dumps(summary | facts))


def make_run(path, *, epochs=2, status="finished", callbacks="", **manifest):
    path.mkdir(parents=True)
    (path / "config.toml").write_text(CONFIG + callbacks)
    (path / "manifest.json").write_text(json.dumps({"schema": 1, "run": RUN_ID, **manifest}))
    append(path, *rows_of(epochs))
    if status:
        append(path, {"step": 10, "epoch": epochs, "split": "test", "values": {"loss": 0.25}, "lr": 0.01})
        end(path, status)
    return path
