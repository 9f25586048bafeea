import pytest
from sklearn.metrics import precision_recall_fscore_support

from ptb_report.confusion import Confusion, calibration, sample_columns

PAIRS = [("a", "a"), ("a", "b"), ("a", "a"), ("b", "b"), ("b", "a"), ("c", "b"), ("c", "c"), ("b", "b")]
ROWS = [
    {"sample": place, "input": f"x{place}", "truth": truth, "prediction": guess, "probability": 0.05 + place / 10}
    for place, (truth, guess) in enumerate(PAIRS)
]


@pytest.fixture
def confusion():
    return Confusion.of(ROWS, ["a", "b", "c", "d"])


def test_the_matrix_adds_up_to_the_samples(confusion):
    assert confusion.matrix() == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert sum(map(sum, confusion.matrix())) == len(PAIRS)
    assert confusion.confused(2) == [(0, 1, 1), (1, 0, 1)]
    assert confusion.accuracy() == 5 / 8


def test_the_figures_of_classes_are_those_of_scikit_learn(confusion):
    columns = zip(*PAIRS, strict=True)
    expected = precision_recall_fscore_support(*columns, labels=["a", "b", "c"], zero_division=0)
    for place, (support, precision, recall, f1) in enumerate(confusion.by_class()[:3]):
        assert [precision, recall, f1, support] == pytest.approx([column[place] for column in expected])
    assert confusion.by_class()[3] == (0, None, None, None)


def test_calibration_is_the_weighted_distance_of_accuracy_and_probability(confusion):
    bins, error = calibration(confusion)
    assert [each.samples for each in bins] == [1] * 8 + [0, 0]
    rights = [truth == guess for truth, guess in PAIRS]
    expected = sum(abs(right - row["probability"]) for right, row in zip(rights, ROWS, strict=True)) / 8
    assert error == pytest.approx(expected)


def test_a_class_that_nobody_knew_comes_last():
    confusion = Confusion.of([{"truth": "new", "prediction": "a"}], ["a", "b"])
    assert (confusion.classes, confusion.truths, confusion.predictions) == (["a", "b", "new"], [2], [0])


def test_of_very_many_samples_each_cell_lists_its_first_ones(monkeypatch):
    monkeypatch.setattr("ptb_report.confusion.MOST_LISTED", 7)
    monkeypatch.setattr("ptb_report.confusion.MOST_IN_A_CELL", 1)
    columns = sample_columns(Confusion.of(ROWS, ["a", "b", "c"]), {})
    assert columns["number"] == [0, 1, 3, 4, 5, 6]
    assert [0, 0, 2] in columns["counts"]
