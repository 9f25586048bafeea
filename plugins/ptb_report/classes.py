"""What a page shows of a model that chooses one of several classes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ptb_report import charts
from ptb_report.blocks import Chart, Matrix, Note, Pairs, Panel, Table
from ptb_report.confusion import BINS, Confusion, calibration
from ptb_report.words import Words

MOST_IN_TABLE = 30  # classes of a matrix whose counts are printed
MOST_PAIRS = 20
MOST_PAIRS_IN_TABLE = 200
MOST_BARS = 30


def matrix(confusion: Confusion, split: str, words: Words) -> Iterator[Any]:
    """The confusion matrix; of many classes a picture without numbers, and the pairs that are confused most."""
    text = "{number} samples of the {split} split: {right} are right ({accuracy})."
    right = sum(map(int.__eq__, confusion.truths, confusion.predictions))
    accuracy = f"{confusion.accuracy():.2%}"
    yield Note(words(text, number=f"{len(confusion.rows):,}", split=split, right=f"{right:,}", accuracy=accuracy))
    if len(confusion.classes) <= MOST_IN_TABLE:
        yield Matrix(confusion.classes, confusion.matrix())
    else:
        cells = [(*pair, count) for pair, count in sorted(confusion.cells.items())]
        options = charts.heatmap("matrix", confusion.classes, cells)
        note = words("Rows are the truth, columns the prediction. Hold Ctrl and turn the wheel to zoom.")
        text = "Confusion matrix of {number} classes; the table below has the pairs."
        alt = words(text, number=len(confusion.classes))
        wrong = confusion.confused(MOST_PAIRS_IN_TABLE)
        rows = [(confusion.classes[truth], confusion.classes[guess], count) for truth, guess, count in wrong]
        head = [words("truth"), words("prediction"), words("samples")]
        behind = Table(head, rows, words("The {number} most confused pairs", number=len(rows)), hidden=True)
        yield Chart("matrix", words("Confusion matrix"), alt, options, behind, 560, "matrix", note)
        yield Pairs(confusion.classes, confusion.confused(MOST_PAIRS))
    yield Panel(words("Choose a cell to see its samples."))


def by_class(confusion: Confusion, words: Words) -> Iterator[Any]:
    """Precision, recall and F1 of each class."""
    figures = confusion.by_class()
    order = range(len(figures))
    if len(figures) > MOST_BARS:  # those that go worst
        order = sorted(order, key=lambda place: (figures[place][3] is None, figures[place][3] or 0))[:MOST_BARS]  # type: ignore[assignment]
        order = sorted(order)  # type: ignore[assignment]
    heads = [words("precision"), words("recall"), "F1"]
    columns = {head: [figures[place][1 + column] for place in order] for column, head in enumerate(heads)}
    options = charts.bars("classes", [confusion.classes[place] for place in order], columns)
    rows = [
        (name, support, precision, recall, f1)
        for name, (support, precision, recall, f1) in zip(confusion.classes, figures, strict=True)
    ]
    table = Table([words("class"), words("samples"), *heads], rows, words("The values as a table"), hidden=True)
    worst = min((each for each in rows if each[4] is not None), key=lambda each: each[4], default=None)  # type: ignore[return-value, arg-type]
    alt = words("Precision, recall and F1 of each class.")
    if worst is not None:
        alt += words(" The lowest F1 is {value}, of {name}.", value=f"{worst[4]:.3g}", name=worst[0])
    note = ""
    if len(figures) > MOST_BARS:
        note = words("Drawn are the {number} classes with the lowest F1.", number=MOST_BARS)
    yield Chart("classes", words("Precision, recall and F1"), alt, options, table, note=note)


def calibrated(confusion: Confusion, words: Words) -> Iterator[Any]:
    """Whether predictions of 90 % are right nine times out of ten."""
    bins, error = calibration(confusion)
    drawn = [each for each in bins if each.samples]
    right = charts.Series(
        words("right"), [each.probability or 0 for each in drawn], [each.accuracy for each in drawn], colour=charts.BLUE
    )
    ideal = charts.Series(words("perfectly calibrated"), [0, 1], [0, 1], colour=charts.GREY, dashed=True)
    options = charts.lines(
        "calibration",
        [right, ideal],
        words("predicted probability"),
        whole=False,
        bounds=(0, 1),
        y_name=words("part that is right"),
        zoom=False,
    )
    options["xAxis"][0] |= {"min": 0, "max": 1}
    head = [words("probability"), words("samples"), words("mean probability"), words("right")]
    rows = [(f"{each.low:.1f} - {each.high:.1f}", each.samples, each.probability, each.accuracy) for each in bins]
    text = (
        "Expected calibration error over {bins} bins: {error}. Below the dashed line the model is too sure of itself."
    )
    note = words(text, bins=BINS, error=f"{error:.4f}")
    table = Table(head, rows, words("The values as a table"), hidden=True)
    yield Chart("calibration", words("Calibration"), note, options, table, 440, "square", note)


def balance(
    manifest: Mapping[str, Any], names: Sequence[str], tested: Mapping[str, int], split: str, words: Words
) -> Iterator[Any]:
    """How many samples each class has in training, and in the split that is judged."""
    counts = list((manifest.get("data") or {}).get("class_counts") or ())
    columns: dict[str, list[float | None]] = {}
    if counts:
        columns["train"] = [*counts, *[0] * (len(names) - len(counts))]
    if tested:
        columns[split] = [tested.get(name, 0) for name in names]
    if not columns or not names:
        return
    options = charts.bars("balance", names, columns)
    rows = [(name, *(values[place] for values in columns.values())) for place, name in enumerate(names)]
    table = Table([words("class"), *columns], rows, words("The values as a table"), hidden=True)
    first = next(iter(columns.values()))
    alt = words(
        "Samples of each class: the smallest has {low}, the largest {high}.",
        low=min(each or 0 for each in first),
        high=max(each or 0 for each in first),
    )
    yield Chart("balance", words("Samples of each class"), alt, options, table)
