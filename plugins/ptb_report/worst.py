"""The samples with the largest losses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ptb_report.blocks import Gallery, Note, Shown
from ptb_report.history import number
from ptb_report.predicted import Predicted
from ptb_report.words import Words

MOST = 25
TITLES = {"input": "input", "truth": "truth", "prediction": "prediction", "probability": "probability", "loss": "loss"}


def worst(predicted: Predicted, words: Words) -> Iterator[Any]:
    """The samples with the largest losses; where the loss has no value for one sample, wrong ones."""
    rows = predicted.rows
    ranked = [(loss, place) for place, row in enumerate(rows) if (loss := number(row.get("loss"))) is not None]
    chosen: list[int]
    if ranked:
        yield Note(words("The samples with the largest losses first, right or wrong."))
        order = sorted(ranked, key=lambda each: (each[0] == each[0], -each[0], each[1]))  # NaN first
        chosen = [place for _, place in order[:MOST]]
    else:
        yield Note(words("The loss of the run has no value for one sample; these are wrong."))
        chosen = [place for place, row in enumerate(rows) if row.get("truth") != row.get("prediction")][:MOST]
    columns = _columns(rows[0])
    samples = []
    for place in chosen:
        row = rows[place]
        identity = row.get("sample", place)
        values = [_plain(row.get(key)) for key in columns]
        samples.append(Shown(identity, predicted.shown.get(identity, {}), values, _is_wrong(row)))
    if samples:
        yield Gallery([words(TITLES[key]) if key in TITLES else key for key in columns], samples)


def title_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the section is called, in English: without losses it holds mistakes only."""
    return "Largest losses" if any(number(row.get("loss")) is not None for row in rows) else "Mistakes"


def _is_wrong(row: Mapping[str, Any]) -> bool:
    """Whether a class was taken for another; values are never quite right."""
    truth, prediction = row.get("truth"), row.get("prediction")
    return isinstance(truth, str) and isinstance(prediction, str) and truth != prediction


def _columns(row: Mapping[str, Any]) -> list[str]:
    """What is told of a sample: all but the probabilities of classes that it was not taken for."""
    found = [key for key in row if key in TITLES or key.startswith("prediction:")]
    return [key for key in found if not (key == "truth" and _is_long(row[key]))]


def _is_long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 6


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(f"{each:z.4g}" if isinstance(each, float) else str(each) for each in value)
    return value
