"""The page of one run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from ptb import RunRecord
from ptb_report import about, classes, other_targets
from ptb_report.blocks import Failure, Gallery, Note, Page, Section
from ptb_report.confusion import Confusion, sample_columns
from ptb_report.curves import curves
from ptb_report.history import History, history
from ptb_report.predicted import Predicted
from ptb_report.words import Words
from ptb_report.worst import title_of, worst

LONGEST_ERROR = 500
Make = Callable[[], Iterable[Any]]


def one_run(record: RunRecord, predicted: Predicted | None, words: Words) -> Page:
    """The page of a run; without ``predicted``, as while it goes on, nothing is said of single samples."""
    past = history(record)
    sections = [
        section("figures", words("Figures"), words, lambda: _figures(record, past, words)),
        section("curves", words("Curves"), words, lambda: curves(record, past, words)),
    ]
    samples: dict[str, Any] = {}
    if predicted is not None:
        try:
            sections += _outcome(record, predicted, words, samples)
        except Exception as error:
            sections.append(Section("mistakes", words("Mistakes"), [_failure(error, words)]))
    for identity, title, make in (
        ("data", "Data", about.data),
        ("settings", "Settings", about.settings),
        ("environment", "Environment", about.environment),
        ("use", "How to use this run", about.use),
    ):
        sections.append(section(identity, words(title), words, partial(make, record, words)))
    try:
        title, subtitle = about.title(record, words), about.subtitle(record, past, words)
    except Exception:  # a damaged manifest; the sections have told
        title, subtitle = record.path.resolve().name, ""
    return Page(title, about.status(record), subtitle, sections, samples)


def section(identity: str, title: str, words: Words, make: Make) -> Section:
    """A section; what fails in it is one box, after what was made before it failed."""
    blocks: list[Any] = []
    try:
        for block in make():
            blocks.append(block)  # what was made before an error stays
    except Exception as error:  # recorded files may hold anything, and a page is better than none
        blocks.append(_failure(error, words))
    return Section(identity, title, blocks)


def _failure(error: Exception, words: Words) -> Failure:
    return Failure(words("This part could not be made"), f"{type(error).__name__}: {error}"[:LONGEST_ERROR])


def _outcome(record: RunRecord, predicted: Predicted, words: Words, samples: dict[str, Any]) -> list[Section]:
    """The sections about single samples, by what the run predicts."""
    manifest, rows, split = record.manifest, predicted.rows, predicted.split
    names = about.class_names(manifest)
    tested: Counter[str] = Counter()
    found = []

    def add(identity: str, title: str, make: Make) -> None:
        made = section(identity, words(title), words, make)
        if made.blocks:
            found.append(made)

    def add_predicted(identity: str, title: str, make: Make) -> None:
        made = section(identity, words(title), words, make)
        if made.blocks and predicted.step is not None:
            of = Note(
                words(
                    "Predictions for the {split} split, with the weights of step {step}.",
                    split=split,
                    step=predicted.step,
                )
            )
            made = replace(made, blocks=[of, *made.blocks])
        if made.blocks:
            found.append(made)

    if not rows:
        reason = predicted.missing or words("there is no predictions-{split}.jsonl", split=split)
        text = "What is predicted for each sample is not known, so there are no mistakes to show: {reason}"
        add("mistakes", "Mistakes", lambda: [Note(words(text, reason=reason), "warning")])
    elif _names_classes(rows, manifest):
        confusion = Confusion.of(rows, names)
        names, tested = [*confusion.classes], Counter(confusion.classes[truth] for truth in confusion.truths)
        add_predicted("matrix", "Confusion matrix", lambda: classes.matrix(confusion, split, words))
        add_predicted("worst", title_of(rows), lambda: worst(predicted, words))
        add_predicted("classes", "Classes", lambda: classes.by_class(confusion, words))
        if "probability" in rows[0]:
            add_predicted("calibration", "Calibration", lambda: classes.calibrated(confusion, words))
        blocks = [block for part in found for block in part.blocks]
        drawn = {each.number for block in blocks if isinstance(block, Gallery) for each in block.samples}
        shown = {number: value for number, value in predicted.shown.items() if number not in drawn}
        samples |= sample_columns(confusion, shown)
    else:
        add_predicted("outcome", "Predictions", lambda: _predictions(record, predicted, names, words))
        add_predicted("worst", title_of(rows), lambda: worst(predicted, words))
    add("balance", "Class balance", lambda: classes.balance(manifest, names, tested, split, words))
    return found


def _predictions(record: RunRecord, predicted: Predicted, names: list[str], words: Words) -> Iterator[Any]:
    """What goes with the kind of the targets."""
    target, rows = (record.manifest.get("data") or {}).get("target"), predicted.rows
    has_values = "truth" in rows[0]
    if target == "multilabel" and has_values:
        yield from other_targets.multilabel(rows, names, words)
    elif target == "similarity" and has_values:
        yield from other_targets.similarity(rows, words)
    elif target == "distribution" and has_values:
        yield from other_targets.distribution(rows, words)
    elif any(key.partition(":")[0] == "prediction" for key in rows[0]) and has_values:
        yield from other_targets.real(rows, words)
    yield from other_targets.losses(rows, words)


def _names_classes(rows: Any, manifest: Any) -> bool:
    target = (manifest.get("data") or {}).get("target")
    named = all(isinstance(rows[0].get(key), str) for key in ("truth", "prediction"))
    return named and target in ("class", "binary", None)


def _figures(record: RunRecord, past: History, words: Words) -> Iterator[Any]:
    yield from about.warnings(record, past, words)
    yield from about.figures(record, words)
