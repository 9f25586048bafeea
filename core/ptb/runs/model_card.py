"""The model card of a run: what it has recorded, as a page for people. Imports no torch.

After Mitchell et al., Model Cards for Model Reporting, 2019, https://arxiv.org/abs/1810.03993, as far as facts are
recorded: what the model is for, and what it must not be used for, is left to whoever publishes it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import tomlkit

from ptb.runs.record import RunRecord

ENVIRONMENT = ("ptb", "torch", "python", "platform", "device", "device_name", "threads", "seed", "git_commit")
HASH = 12  # digits that are enough to compare by eye


def text(run: RunRecord) -> str:
    """The page, in Markdown; every figure stands as in ``summary.json``."""
    manifest, summary = run.manifest, run.summary
    used = [each for each in manifest.get("plugins", ()) if each.get("used")]
    ids = {each["section"]: str(each["id"]) for each in used}
    model, dataset = (ids.get(section, "?").rpartition(":")[2] for section in ("model", "dataset"))
    name = manifest.get("name") or f"{model} on {dataset}"
    parts = [
        f"# {_plain(name)}",
        f"Status: {_ending(summary)}{_parent(manifest)}. Written by ptb {manifest.get('ptb', '?')} from "
        "`summary.json`, `manifest.json` and `config.toml` beside it.",
        *_section("Figures", _figures(run)),
        *_section("Data", _data(manifest, ids.get("dataset", "?"))),
        *_section("Use", [_use(manifest, str(run.config.get("dataset", {}).get("name", "")))]),
        *_section("Settings", [_code(tomlkit.dumps(run.config).splitlines())]),
        *_section("Environment", [_table(("", ""), [(key, manifest[key]) for key in ENVIRONMENT if key in manifest])]),
        *_section("Plugins", [_plugins(used)]),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _ending(summary: Mapping[str, Any]) -> str:
    known = f"{summary.get('status')} after {summary.get('epoch')} epochs, {summary.get('step')} steps"
    reason = f" ({_plain(summary['reason'])})" if summary.get("reason") else ""
    early = ", stopped early" if summary.get("stopped_early") else ""
    best = f"; the best step is {summary['best_step']}" if summary.get("best_step") is not None else ""
    return f"{known}{early}{reason}{best}"


def _parent(manifest: Mapping[str, Any]) -> str:
    parent = manifest.get("parent")
    return f"; it continues {_plain(parent['path'])} after step {parent['step']}" if parent else ""


def _figures(run: RunRecord) -> Iterator[str]:
    summary = run.summary
    metrics, intervals = dict(summary.get("metrics") or {}), dict(summary.get("intervals") or {})
    labels = dict.fromkeys(key.partition("/")[2] for key in metrics)
    splits = dict.fromkeys(key.partition("/")[0] for key in metrics)
    rows = [(label, *(metrics.get(f"{split}/{label}", "") for split in splits)) for label in labels]
    if rows:
        steps = {split: (run.columns(split)["step"] or ["?"])[-1] for split in splits}
        yield _table(("", *(f"{split}, step {step}" for split, step in steps.items())), rows)
        yield "Each split was measured with the weights of the step beside its name; `train` while they changed."
    for key, (low, high) in intervals.items():
        yield f"{_plain(key)}: 95 % interval from {_plain(low)} to {_plain(high)}."
    rest = ("parameters", "weights_sha256", "train_seconds", "samples_per_second")
    yield _table(("", ""), [(key, summary[key]) for key in rest if key in summary])


def _data(manifest: Mapping[str, Any], dataset: str) -> Iterator[str]:
    data = manifest.get("data") or {}
    facts = [("data set", dataset), ("fingerprint (SHA-256)", manifest.get("dataset_sha256"))]
    facts += [(f"samples of {split}", number) for split, number in data.get("samples", {}).items()]
    facts += [(key.replace("_", " "), data[key]) for key in ("inputs", "input_shape", "target") if key in data]
    yield _table(("", ""), facts)
    names, counts = data.get("class_names") or (), data.get("class_counts") or ()
    numbers = range(max(len(names), len(counts)))
    rows = [(each, names[each] if names else "", counts[each] if counts else "") for each in numbers]
    if rows:
        yield _table(("number", "name", "in training") if counts else ("number", "name"), rows)


def _use(manifest: Mapping[str, Any], dataset: str) -> str:
    if "preprocessor" not in manifest:
        return (
            f"The data set {_plain(dataset)} saves no preprocessor, so that `ptb predict` and `ptb export` do not know "
            "how files become inputs; `ptb eval .` measures the model on the data of the run."
        )
    lines = ("ptb predict . FILES -o predictions.csv", "ptb eval .", "ptb export . --format onnx -o model.onnx")
    return f'In the folder of this page:\n\n{_code(lines)}\nFrom Python: `ptb.load("RUN").predict(FILES)`.'


def _plugins(used: Iterable[Mapping[str, Any]]) -> str:
    rows = [(each["section"], each["id"], each["version"], str(each["sha256"])[:HASH]) for each in used]
    return _table(("section", "component", "version", "SHA-256 of the plugin"), rows)


def _section(title: str, parts: Iterable[str]) -> list[str]:
    return [f"## {title}", *parts]


def _code(lines: Iterable[str]) -> str:
    """Indented: no line of it can end the block."""
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line[: len(head)]))} |" for line in lines)


def _plain(value: Any) -> str:
    """A value on one line, in which Markdown sees no mark; numbers as JSON has them."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return "".join(f"\\{each}" if each in r"\`*<>[]|#" else each for each in " ".join(shown.split()))
