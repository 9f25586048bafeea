"""Draws the pictures of docs/explanation/what-the-pictures-say.md: small runs, each with one thing that goes wrong.

::

    python docs/gallery/make.py           train, draw, and write the pictures beside this file; takes some minutes
"""

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset

import ptb
from ptb import Component, DataBundle, RunRecord, hookimpl

FOLDER = Path(__file__).parent
DPI = 80


def flawed(*, noise: float = 0.0, rare: bool = False) -> DataBundle:
    """The digits, with some training and test labels replaced by the next class, or with few eights and nines."""
    bundle = ptb.load_registry().get("dataset", "digits").load()(size=16)
    source = torch.Generator().manual_seed(0)

    def changed(split: Any) -> Any:
        inputs = torch.stack([sample[0] for sample in split])
        targets = torch.stack([torch.as_tensor(sample[1]) for sample in split])
        wrong = torch.rand(len(targets), generator=source) < noise
        targets = torch.where(wrong, (targets + 1) % 10, targets)
        whole = TensorDataset(inputs, targets)
        if not rare:
            return whole
        few = {label: (targets == label).nonzero().flatten()[5:].tolist() for label in (8, 9)}
        gone = {place for places in few.values() for place in places}
        return Subset(whole, [place for place in range(len(targets)) if place not in gone])

    train = changed(bundle.train)
    counts = tuple(torch.bincount(torch.stack([sample[1] for sample in train]), minlength=10).tolist())
    test = bundle.test if rare else changed(bundle.test)
    return DataBundle(replace(bundle.spec, class_counts=counts), train, bundle.val, test, transform=bundle.transform)


class Flawed:
    """A plugin with that data set."""

    @hookimpl
    def ptb_provide_datasets(self) -> list[Component]:
        """One data set."""
        return [Component("flawed", f"{__name__}:flawed", summary="Digits with something wrong")]


RUNS: dict[str, dict[str, Any]] = {
    "overfitting": {
        "dataset": {"name": "flawed", "noise": 0.15},
        "model": {"name": "mlp", "hidden": [256]},
        "optimizer": {"name": "adam", "lr": 0.003},
        "trainer": {"epochs": 40},
    },
    "good": {"dataset": {"name": "digits", "size": 16}, "model": {"name": "mlp"}, "trainer": {"epochs": 8}},
    "rate-too-high": {
        "dataset": {"name": "digits", "size": 16},
        "model": {"name": "mlp"},
        "optimizer": {"name": "adam", "lr": 0.3},
        "trainer": {"epochs": 8},
    },
    "noise": {"dataset": {"name": "flawed", "noise": 0.1}, "model": {"name": "mlp"}, "trainer": {"epochs": 8}},
    "rare": {"dataset": {"name": "flawed", "rare": True}, "model": {"name": "linear"}, "trainer": {"epochs": 4}},
    "diabetes": {"dataset": {"name": "diabetes"}, "model": {"name": "linear"}, "trainer": {"epochs": 30}},
    "pairs": {"dataset": {"name": "digit-pairs"}, "model": {"name": "lenet"}, "trainer": {"epochs": 3}},
}
# The file, the plot, its runs and settings.
PICTURES: Sequence[tuple[str, str, tuple[str, ...], dict[str, Any]]] = (
    ("overfitting", "curves", ("overfitting",), {}),
    ("rate-too-high", "curves", ("good", "rate-too-high"), {"log": True}),
    ("label-noise", "worst-samples", ("noise",), {"count": 12}),
    ("confusion", "confusion", ("rare",), {}),
    ("class-balance", "class-balance", ("rare",), {}),
    ("per-class", "per-class", ("rare",), {}),
    ("too-sure", "calibration", ("overfitting",), {}),
    ("precision-recall", "precision-recall", ("rare",), {}),
    ("residuals", "residuals", ("diabetes",), {}),
    ("features", "features", ("diabetes",), {}),
    ("filters", "filters", ("pairs",), {}),
)


def main() -> int:
    """Trains, draws and writes."""
    registry = ptb.load_registry(plugins=[Flawed()])
    with TemporaryDirectory() as folder:
        records = {}
        for name, config in RUNS.items():
            output = Path(folder, name)
            ptb.train(ptb.RunConfig(**config, device="cpu", threads=1), registry=registry, output=output)
            splits = ("val", "test") if name == "rare" else ("test",)
            for split in splits:
                # The last weights of the run that overfits, to show what it does to them.
                checkpoint = "last" if name == "overfitting" else None
                ptb.evaluate(output, checkpoint=checkpoint, split=split, record=True, registry=registry)
            records[name] = RunRecord(output)
            print(f"trained {name}")
        for file, plot, runs, settings in PICTURES:
            target = registry.get("plot", plot).load()
            write(target([records[run] for run in runs], **settings), FOLDER / f"{file}.png")
            print(f"wrote {file}.png")
    return 0


def write(figure: Any, path: Path) -> None:
    """A small picture of 128 colours."""
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    Image.open(stream).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
