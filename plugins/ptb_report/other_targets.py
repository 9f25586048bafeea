"""What a page shows of models that predict anything but one class: values, labels, similarities, distributions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ptb_report import charts
from ptb_report.blocks import Chart, Note, Table
from ptb_report.real import histogram, targets
from ptb_report.words import Words

MOST_TARGETS = 6
MOST_POINTS = 2_000
MOST_ROWS = 200  # of a table behind a chart

Rows = Sequence[Mapping[str, Any]]


def real(rows: Rows, words: Words) -> Iterator[Any]:
    """Prediction against truth, and residuals, of each target."""
    found = targets(rows)
    for place, (name, pairs) in enumerate([*found.items()][:MOST_TARGETS]):
        if not pairs:
            yield Note(words("No prediction is finite."), "warning")
            continue
        step = -(-len(pairs) // MOST_POINTS)
        shown = pairs[::step]
        low, high = min(map(min, pairs)), max(map(max, pairs))
        label = f" ({name})" if name else ""
        options = charts.points(
            f"real-{place}", shown, words("truth"), words("prediction"), line=(low, high) if low < high else None
        )
        residuals = [prediction - truth for truth, prediction in pairs]
        mean = sum(residuals) / len(residuals)
        alt = words(
            "Prediction against truth for {number} samples; the mean residual is {mean}.",
            number=len(pairs),
            mean=f"{mean:z.4g}",
        )
        head = [words("truth"), words("prediction")]
        caption = words("The values as a table")
        if len(pairs) > MOST_ROWS:
            caption = words("The first {number} values as a table", number=min(len(shown), MOST_ROWS))
        note = words("Drawn is every {step}th sample.", step=step) if step > 1 else ""
        table = Table(head, shown[:MOST_ROWS], caption, hidden=True)
        yield Chart(f"real-{place}", words("Prediction against truth") + label, alt, options, table, 380, note=note)
        yield _histogram(
            f"residuals-{place}",
            words("Residuals: prediction less truth") + label,
            residuals,
            words("prediction less truth"),
            words,
        )
    if len(found) > MOST_TARGETS:
        yield Note(words("{number} more targets are not drawn.", number=len(found) - MOST_TARGETS))


def multilabel(rows: Rows, names: Sequence[str], words: Words) -> Iterator[Any]:
    """Precision, recall and F1 of each label."""
    # A label may have the separator in its name: then its texts cannot be told apart, and nobody is served a guess.
    if any("|" in name for name in names):
        text = "A label has a | in its name, so that the labels of a sample cannot be told apart."
        yield Note(words(text), "warning")
        return
    pairs = [(set(_labels(row["truth"])), set(_labels(row["prediction"]))) for row in rows]
    labels = [*dict.fromkeys([*names, *sorted(set().union(*(one | other for one, other in pairs)))])]
    figures = []
    for name in labels:
        both = sum(name in truth and name in guess for truth, guess in pairs)
        true, said = (sum(name in pair[side] for pair in pairs) for side in (0, 1))
        figures.append(
            (
                name,
                true,
                both / said if said else None,
                both / true if true else None,
                2 * both / (true + said) if true + said else None,
            )
        )
    heads = [words("precision"), words("recall"), "F1"]
    columns: dict[str, list[Any]] = {head: [row[2 + place] for row in figures] for place, head in enumerate(heads)}
    options = charts.bars("labels", labels, columns)
    table = Table([words("label"), words("samples"), *heads], figures, words("The values as a table"), hidden=True)
    alt = words("Precision, recall and F1 of each label, at a threshold of 0.5.")
    yield Chart("labels", words("Figures of each label"), alt, options, table, note=alt)


def similarity(rows: Rows, words: Words) -> Iterator[Any]:
    """How similar pairs are found to be that are the same, and that are not."""
    kinds = {words("same"): 1.0, words("different"): -1.0}
    values = {name: [float(row["prediction"]) for row in rows if row["truth"] == sign] for name, sign in kinds.items()}
    edges = [-1 + place / 10 for place in range(20)]
    columns = {
        name: [sum(min(19, int((value + 1) * 10)) == place for value in each) for place in range(20)]
        for name, each in values.items()
    }
    labels = [f"{edge + 0.05:.2f}" for edge in edges]
    options = charts.bars("similarity", labels, columns)
    table_rows = [(label, *(counts[place] for counts in columns.values())) for place, label in enumerate(labels)]
    table = Table([words("cosine"), *columns], table_rows, words("The values as a table"), hidden=True)
    means = {name: sum(each) / len(each) if each else 0.0 for name, each in values.items()}
    shown = ", ".join(f"{name} {mean:.3g}" for name, mean in means.items())
    note = words("Mean cosine: {values}.", values=shown)
    yield Chart("similarity", words("Cosine of same and different pairs"), note, options, table, note=note)


def distribution(rows: Rows, words: Words) -> Iterator[Any]:
    """The mean of what is true and of what is predicted, class by class."""
    names = [key.partition(":")[2] for key in rows[0] if key.startswith("probability:")]
    if not names:
        return
    truth = [sum(row["truth"][place] for row in rows) / len(rows) for place in range(len(names))]
    guess = [sum(row[f"probability:{name}"] for row in rows) / len(rows) for name in names]
    options = charts.bars("distribution", names, {words("truth"): truth, words("prediction"): guess})
    table = Table(
        [words("class"), words("truth"), words("prediction")],
        [*zip(names, truth, guess, strict=True)],
        words("The values as a table"),
        hidden=True,
    )
    text = words("Mean share of each class over the samples, true and predicted.")
    yield Chart("distribution", words("Mean distribution"), text, options, table, note=text)


def losses(rows: Rows, words: Words) -> Iterator[Any]:
    """How the loss is spread over the samples."""
    values = [float(row["loss"]) for row in rows if row.get("loss") is not None]
    values = [value for value in values if value - value == 0]
    if values:
        yield _histogram("losses", words("Loss of each sample"), values, words("loss"), words)


def _histogram(identity: str, title: str, values: Sequence[float], x_name: str, words: Words) -> Chart:
    names, counts = histogram(values)
    head = [words("value"), words("samples")]
    table = Table(head, [*zip(names, counts, strict=True)], words("The values as a table"), hidden=True)
    text = "{number} values from {low} to {high}, on average {mean}."
    low, high, mean = (f"{value:.4g}" for value in (min(values), max(values), sum(values) / len(values)))
    alt = f"{title}: " + words(text, number=len(values), low=low, high=high, mean=mean)
    options = charts.bars(identity, names, {words("samples"): counts}, x_name=x_name, y_name=words("samples"))
    return Chart(identity, title, alt, options, table)


def _labels(text: str) -> list[str]:
    return text.split("|") if text else []
