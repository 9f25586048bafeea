"""Run directories as they lie on a disk, their figures made up: as large, damaged or hostile as a test wants them."""

import json
import random
from pathlib import Path
from typing import Any

# A grey picture of one pixel.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2u9mAAAAAABJRU5ErkJggg=="
HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "'单引号' \u202eright to left\u202d",
    "很" * 300,
    "🌸 \u0000{braces} %s --x_x--0_0--",
)


def made_run(
    path: Path,
    *,
    epochs: int = 3,
    names: tuple[str, ...] = ("a", "b", "c"),
    samples: int = 60,
    values: Any = None,
    ended: bool = True,
    predictions: bool = True,
    target: str = "class",
    lr: float = 0.01,
    seed: int = 0,
) -> Path:
    """A run of a classifier; ``values(epoch)`` gives the figures of an epoch of both splits."""
    path.mkdir(parents=True)
    drawn = random.Random(seed)
    (path / "config.toml").write_text(
        f'seed = {seed}\n[model]\nname = "mlp"\n[dataset]\nname = "digits"\n[optimizer]\nname = "adam"\nlr = {lr}\n'
    )
    values = values or (lambda epoch: {"loss": 1 / epoch + drawn.random() / 10, "accuracy": 1 - 0.5 / epoch})
    rows = [
        {"step": 10 * epoch, "epoch": epoch, "split": split, "values": values(epoch), "lr": lr / epoch}
        for epoch in range(1, epochs + 1)
        for split in ("train", "val")
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    truths = [number % len(names) for number in range(samples)]
    guesses = [truth if drawn.random() < 0.8 else drawn.randrange(len(names)) for truth in truths]
    right = sum(map(int.__eq__, truths, guesses)) / samples
    data = {
        "samples": {"train": 10 * samples, "val": samples, "test": samples},
        "inputs": "image",
        "input_shape": [1, 8, 8],
        "target": target,
        "class_names": names,
        "class_counts": [10 * samples // len(names)] * len(names),
    }
    plugins = [
        {"section": "model", "id": "pytorch-basics:mlp", "version": "0", "sha256": "0" * 64, "used": True},
        {"section": "dataset", "id": "pytorch-basics:digits", "version": "0", "sha256": "0" * 64, "used": True},
    ]
    manifest = {"schema": 1, "ptb": "0", "seed": seed, "argv": ["ptb", "run"], "plugins": plugins, "data": data}
    (path / "manifest.json").write_text(json.dumps(manifest))
    if ended:
        metrics = {"val/loss": 0.1234567890123, "test/loss": 0.2345678901234, "test/accuracy": right}
        summary = {"schema": 1, "status": "finished", "epoch": epochs, "step": 10 * epochs, "best_step": 10}
        summary |= {"metrics": metrics, "intervals": {"test/accuracy": [0.5, 1.0]}, "test_step": 10, "parameters": 7}
        (path / "summary.json").write_text(json.dumps(summary))
    if predictions:
        lines, shown = [], []
        for number, (truth, guess) in enumerate(zip(truths, guesses, strict=True)):
            row = {"step": 10, "sample": number, "input": f"test:{number}", "truth": names[truth]}
            row |= {"prediction": names[guess], "probability": round(drawn.uniform(0.3, 1), 6), "loss": drawn.random()}
            lines.append(json.dumps(row) + "\n")
            shown.append(json.dumps({"sample": number, "picture": PICTURE}) + "\n")
        (path / "predictions-test.jsonl").write_text("".join(lines))
        (path / "samples-test.jsonl").write_text("".join(shown[:300]))
    return path
