"""What a page says of a run in words and tables: its figures, data, settings, environment, and how to use it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tomlkit

from ptb import RunRecord
from ptb_report.blocks import Card, Cards, Code, Note, Table
from ptb_report.history import History, last_figures, number
from ptb_report.predicted import judged_split
from ptb_report.words import Words

ENVIRONMENT = ("ptb", "torch", "python", "platform", "device", "device_name", "threads", "seed", "git_commit")
STATUSES = ("finished", "interrupted", "failed", "not ended")
HASH = 12  # digits that are enough to compare by eye


def names(record: RunRecord) -> tuple[str, str]:
    """The short names of the model and the data set."""
    used = {each.get("section"): str(each.get("id")) for each in record.manifest.get("plugins", ()) if each.get("used")}
    config = record.config
    model, dataset = (
        used.get(section) or str((config.get(section) or {}).get("name", "?")) for section in ("model", "dataset")
    )
    return model.removeprefix("pytorch-basics:"), dataset.removeprefix("pytorch-basics:")


def title(record: RunRecord, words: Words) -> str:
    """What the run is called, else what was trained on what."""
    model, dataset = names(record)
    return str(record.manifest.get("name") or words("{model} on {dataset}", model=model, dataset=dataset))


def status(record: RunRecord) -> str:
    """How the run ended, as in its summary; ``"not ended"`` without one."""
    return str(record.summary.get("status") or "not ended")


def status_in(record: RunRecord, words: Words) -> str:
    """The same in the language of the page."""
    found = status(record)
    return words(found) if found in STATUSES else found


def subtitle(record: RunRecord, past: History, words: Words) -> str:
    """One sentence: what was trained on what, how long, where."""
    summary, manifest = record.summary, record.manifest
    model, dataset = names(record)
    samples = ((manifest.get("data") or {}).get("samples") or {}).get("train")
    epoch, step = (summary.get(key, past.last.get(key, 0)) for key in ("epoch", "step"))
    parts = [words("{model} on {dataset}", model=model, dataset=dataset)]
    if summary.get("parameters") is not None:
        parts.append(words("{number} parameters", number=f"{summary['parameters']:,}"))
    if samples is not None:
        parts.append(words("{number} training samples", number=f"{samples:,}"))
    parts.append(words("epoch {epochs}, step {steps}", epochs=epoch, steps=step))
    if (seconds := number(summary.get("train_seconds"))) is not None:
        parts.append(words("{seconds} s of training", seconds=f"{seconds:.3g}"))
    parts += [str(manifest[key]) for key in ("device_name",) if key in manifest]
    return " · ".join(parts)


def warnings(record: RunRecord, past: History, words: Words) -> Iterator[Note]:
    """What a reader must know before the figures."""
    summary = record.summary
    if not summary:
        text = (
            "This run has no summary.json: it is going on, or it was killed. The last recorded row is that of epoch "
            "{epoch}, step {step}; `ptb resume` continues the run."
        )
        yield Note(words(text, epoch=past.last.get("epoch", 0), step=past.last.get("step", 0)), "warning")
    elif summary.get("status") != "finished":
        reason = f": {summary['reason']}" if summary.get("reason") else ""
        yield Note(words("This run has not come to its end") + reason, "warning")
    if past.damaged:
        text = "Lines of metrics.jsonl that cannot be read: {number}; what is left is drawn."
        yield Note(words(text, number=past.damaged), "warning")
    if not record.manifest:
        yield Note(words("manifest.json cannot be read: data, environment and plugins are not known."), "warning")
    if summary.get("stopped_early"):
        yield Note(words("The training was stopped early: the monitored figure became no better."))


def figures(record: RunRecord, words: Words) -> Iterator[Any]:
    """The cards, and every figure of the summary; without a summary those of the last rows."""
    summary = record.summary
    metrics = summary.get("metrics") or last_figures(record)
    intervals = summary.get("intervals") or {}
    split = judged_split(record)
    split = split if any(key.startswith(f"{split}/") for key in metrics) else "val"
    top = [key for key in metrics if key.startswith(f"{split}/") and key.count("/") == 1]
    cards = [Card(key, metrics[key], _interval(intervals.get(key), words)) for key in top[:6]]
    if cards:
        yield Cards(cards)
    labels = dict.fromkeys(key.partition("/")[2] for key in metrics)
    splits = dict.fromkeys(key.partition("/")[0] for key in metrics)
    heads, columns = _columns(record, metrics, [*splits], words)
    rows = [
        [label, *(column.get(label) for column in columns)]
        + ([_interval(intervals.get(f"test/{label}"), words)] if intervals else [])
        for label in labels
    ]
    if not rows:
        yield Note(words("Nothing has been measured yet."), "warning")
        return
    yield Table(["", *heads, *([words("95 % interval (test)")] if intervals else [])], rows)
    if summary.get("test_step") is not None:
        text = "The test split was measured with the weights of step {step}."
        yield Note(words(text, step=summary["test_step"]))
    rest = ("best_step", "parameters", "weights_sha256", "train_seconds", "samples_per_second", "skipped_steps")
    known = [(key, summary[key]) for key in rest if summary.get(key) is not None]
    if known:
        yield Table(["", ""], known, words("More from summary.json"), hidden=True)


def _columns(
    record: RunRecord, metrics: Mapping[str, Any], splits: Sequence[str], words: Words
) -> tuple[list[str], list[Mapping[str, Any]]]:
    """The figures of each split with the step of their weights, those of training and validation at the last one.

    The validation split has a second column where it was also measured with the weights that the test split has.
    """
    tested = record.summary.get("test_step")
    rows = [row for row in record.history if isinstance(row.get("step"), int) and isinstance(row.get("values"), dict)]
    heads: list[str] = []
    columns: list[Mapping[str, Any]] = []
    for split in splits:
        of_split = {row["step"]: row["values"] for row in rows if row.get("split") == split}
        step = tested if split == "test" and tested is not None else next(reversed(of_split), None)
        heads.append(split if step is None else words("{split} (step {step})", split=split, step=step))
        columns.append({key.partition("/")[2]: value for key, value in metrics.items() if key.startswith(f"{split}/")})
        if split == "val" and tested in of_split and tested != step:
            heads.append(words("{split} (step {step})", split=split, step=tested))
            columns.append(of_split[tested])
    return heads, columns


def data(record: RunRecord, words: Words) -> Iterator[Any]:
    """What the run was trained on."""
    manifest = record.manifest
    about = manifest.get("data") or {}
    rows = [(words("data set"), names(record)[1]), (words("fingerprint (SHA-256)"), manifest.get("dataset_sha256"))]
    rows += [(words("samples of {split}", split=split), count) for split, count in (about.get("samples") or {}).items()]
    for key, label in (("inputs", "inputs"), ("input_shape", "shape of an input"), ("target", "target")):
        if key in about:
            value = about[key]
            shown = " x ".join(map(str, value)) if isinstance(value, list) else value
            rows.append((words(label), shown))
    yield Table(["", ""], [row for row in rows if row[1] is not None])


def settings(record: RunRecord, words: Words) -> Iterator[Any]:
    """The whole configuration."""
    yield Code(tomlkit.dumps(record.config).strip())


def environment(record: RunRecord, words: Words) -> Iterator[Any]:
    """What the run was made with."""
    manifest = record.manifest
    yield Table(["", ""], [(key, manifest[key]) for key in ENVIRONMENT if manifest.get(key) is not None])
    if argv := manifest.get("argv"):
        yield Code(shlex.join(["ptb", *map(str, argv[1:])]))
    used = [each for each in manifest.get("plugins", ()) if each.get("used")]
    head = [words("section"), words("component"), words("version"), words("SHA-256 of the plugin")]
    rows = [(each.get("section"), each.get("id"), each.get("version"), str(each.get("sha256"))[:HASH]) for each in used]
    yield Table(head, rows, words("Plugins"), hidden=True)


def use(record: RunRecord, words: Words) -> Iterator[Any]:
    """What to type with the run directory."""
    yield Note(words("In the folder of the run:"))
    lines = [
        ("ptb run -c config.toml", words("train the same again")),
        ("ptb run -c config.toml --locked", words("the same, or not at all: with unchanged plugins")),
        ("ptb eval .", words("measure it again")),
    ]
    if not record.summary or record.summary.get("status") != "finished":
        lines.insert(0, ("ptb resume .", words("train on to the end")))
    if "preprocessor" in record.manifest:
        lines.append(("ptb predict . FILES -o predictions.csv", words("predict new inputs")))
        lines.append(("ptb export . --format onnx -o model.onnx", words("a file that needs no ptb")))
    width = max(len(command) for command, _ in lines)
    yield Code("\n".join(f"{command:<{width}}  # {text}" for command, text in lines))
    if parent := record.manifest.get("parent"):
        text = "It continues {path} after step {step}."
        yield Note(words(text, path=parent.get("path"), step=parent.get("step")))


def _interval(bounds: Any, words: Words) -> str:
    """``0.92 to 0.97``, or nothing."""
    if not isinstance(bounds, list) or len(bounds) != 2:
        return ""
    low, high = (f"{value:.4g}" if (value := number(each)) is not None else str(each) for each in bounds)
    return words("{low} to {high}", low=low, high=high)


def class_names(manifest: Mapping[str, Any]) -> list[str]:
    """The classes that a run knows, or their numbers; empty where the manifest tells neither."""
    about = manifest.get("data") or {}
    found = about.get("class_names") or range(len(about.get("class_counts") or ()))
    return [str(name) for name in found]
