"""Small runs, trained and recorded once in a process, for what reads run directories: whole, in part, or hostile."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ptb import PtbError, RunConfig, RunRecord, evaluate, train
from ptb_testing.case import Case
from ptb_testing.outcome import CheckFailed
from ptb_testing.trial import built_in

FORMS = ("class", "real")  # of targets, for a plot that takes any
SPLITS = ("train", "val", "test")
SAMPLES = 40
# What of a run directory holds what a plot needs; the configuration and the manifest are always there.
FILES = {
    "history": ("metrics.jsonl", "summary.json", "histograms.jsonl"),
    "predictions": ("predictions-*.jsonl",),
    "samples": ("samples-*.jsonl",),
    "weights": ("checkpoints/*", "preprocessor.*", "summary.json"),
    "several-runs": (),
}
ALWAYS = ("config.toml", "manifest.json")
HOSTILE = (
    "<script>alert(1)</script>",
    "$\\frac$",
    "quotes \" and '",
    "x" * 300,
    "数字",
    "עברית",
    "line\nbreak",
    "🙂",
)


@cache
def _home() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="ptb-recorded-")


@cache
def run_of(form: str, seed: int) -> Path:
    """The directory of a run of two epochs with this form of targets, its predictions and samples recorded."""
    target, _, positions = form.partition("+")
    output = Path(_home().name) / f"{target}{positions}-{seed}"
    vectors = target in ("real", "multilabel", "binary", "distribution") and not positions
    data = {"name": "random", "target": target, "samples": SAMPLES, "positions": bool(positions)}
    data |= {"inputs": "vector", "input_shape": [4]} if vectors else {"inputs": "image", "input_shape": [1, 8, 8]}
    model = {"name": "unet", "depth": 1, "width": 4} if positions else {"name": "mlp", "hidden": [8]}
    config = RunConfig(
        dataset=data,
        model=model,
        callbacks={"weight-histograms": {}},
        loader={"batch_size": 12},
        trainer={"epochs": 2},
        seed=seed,
        device="cpu",
    )
    train(config, registry=built_in(), output=output)
    for split in SPLITS:
        evaluate(output, split=split, record=True, registry=built_in())
    return output


def records_of(case: Case, form: str, change: Callable[[Path], None] | None = None) -> list[RunRecord]:
    """The records that a plot is tried on, read anew; each from a copy where that is to be changed."""
    seeds = (0, 1) if "several-runs" in case.component.component.needs else (0,)
    paths = [run_of(form, seed) for seed in seeds]
    return [RunRecord(path if change is None else copied(path, change)) for path in paths]


@cache
def forms_of(case: Case) -> tuple[str, ...]:
    """The forms of targets that a plot draws: those it accepts; where it names none, those it does not refuse."""
    if accepts := case.component.component.accepts:
        return accepts
    refused: list[PtbError] = []
    taken = []
    for form in FORMS:
        try:
            case.build(records_of(case, form))
            taken.append(form)
        except PtbError as error:
            refused.append(error)
    if not taken:
        raise CheckFailed(f"it refuses every run: {refused[0]}") from refused[0]
    return tuple(taken)


def copied(path: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a run directory, changed; a copy of the same one replaces it."""
    copy = Path(_home().name) / f"copy-of-{path.name}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    change(copy)
    return copy


def only(needs: Iterable[str]) -> Callable[[Path], None]:
    """Removes from a run directory all that is not needed."""
    kept = [*ALWAYS, *(pattern for need in needs for pattern in FILES[need])]

    def change(folder: Path) -> None:
        needed = {path for pattern in kept for path in folder.glob(pattern)}
        for path in folder.rglob("*"):
            if path.is_file() and path not in needed:
                path.unlink()

    return change


def hostile(folder: Path) -> None:
    """Gives the classes names that nobody expects, and the figures values that are not finite."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    data = manifest["data"]
    names = dict(zip(data.get("class_names") or map(str, range(10)), HOSTILE, strict=False))
    for path in folder.glob("predictions-*.jsonl"):
        path.write_text("".join(_lines([_renamed(row, names) for row in _rows(path)])), encoding="utf-8")
    data["class_names"] = [names.get(name, name) for name in data.get("class_names") or map(str, range(10))]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    history = folder / "metrics.jsonl"
    rows = [*_rows(history)]
    for row, value in zip(rows, ("nan", "inf", "-inf"), strict=False):
        row["values"] = dict.fromkeys(row["values"], value)
    history.write_text("".join(_lines(rows)), encoding="utf-8")


def _renamed(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    head = "probability:"
    row = {head + names.get(k.removeprefix(head), k) if k.startswith(head) else k: each for k, each in row.items()}
    for key in ("truth", "prediction"):
        if isinstance(row.get(key), str):
            row[key] = "|".join(names.get(each, each) for each in row[key].split("|"))
    return row


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
