import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from ptb import DataSpec
from ptb_metrics.class_report import ClassReport

NAMES = ("cat", "dog", "cow", "hen")
SPEC = DataSpec((4,), "vector", "class", 4, class_names=NAMES)
BINARY = DataSpec((4,), "vector", "binary", 1)
classes = st.integers(0, 3)


def scores_of(predicted, count=4):
    return torch.eye(count)[torch.as_tensor(predicted)]


def shown(metric, scores, targets, size=5):
    for start in range(0, len(scores), size):
        metric.update(scores[start : start + size], targets[start : start + size])
    return metric


def column(report, name):
    return [row[name] for row in report["classes"]]


def agree(metric, true, predicted, count):
    """Holds a report against scikit-learn's figures from the samples themselves."""
    report, labels = metric.details(), range(count)
    figures = precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
    for name, wanted in zip(("precision", "recall", "f1", "support"), figures, strict=True):
        assert column(report, name) == pytest.approx(wanted.tolist(), rel=1e-14)
    assert report["confusion"] == confusion_matrix(true, predicted, labels=labels).tolist()
    assert metric.compute() == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0), rel=1e-14)
    for row in report["averages"]:
        wanted = precision_recall_fscore_support(true, predicted, average=row["average"], zero_division=0)
        assert [row[name] for name in ("precision", "recall", "f1")] == pytest.approx(wanted[:3], rel=1e-14)
        assert row["over"].startswith(f"{len({*true, *predicted})} of {count} classes")
    assert [row["average"] for row in report["averages"]] == ["macro", "weighted"]


@settings(deadline=None)
@given(st.lists(st.tuples(classes, classes), min_size=1, max_size=30))
def test_the_figures_are_those_of_scikit_learn(pairs):
    true, predicted = map(list, zip(*pairs, strict=True))
    agree(shown(ClassReport(SPEC), scores_of(predicted), torch.tensor(true)), true, predicted, 4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(-5, 5, width=32)), min_size=1, max_size=20))
def test_those_of_a_binary_target_too(pairs):
    true, logits = map(list, zip(*pairs, strict=True))
    metric = shown(ClassReport(BINARY), torch.tensor(logits)[:, None], torch.tensor(true).float()[:, None])
    agree(metric, true, [int(logit > 0) for logit in logits], 2)


def test_rows_of_the_confusion_are_true_classes_and_columns_predicted_ones():
    metric = shown(ClassReport(SPEC), scores_of([1, 1, 0]), torch.tensor([0, 0, 3]))
    assert metric.details()["confusion"] == [[0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert column(metric.details(), "support") == [2, 0, 0, 1]


def test_a_class_that_neither_occurs_nor_is_predicted_counts_in_no_average():
    """52 of 52 right: 0.75 with the fourth class, which nobody has."""
    right = [0, 1, 2] * 17 + [0]
    metric = shown(ClassReport(SPEC), scores_of(right), torch.tensor(right))
    assert metric.compute() == f1_score(right, right, average="macro") == 1.0
    assert column(metric.details(), "f1") == [1, 1, 1, 0]
    assert metric.details()["averages"][0]["over"] == "3 of 4 classes, those that occur or are predicted"


def test_nor_does_one_of_samples_that_the_loss_ignores():
    true, predicted = [0, 1, -100, 1, -100], [0, 1, 2, 1, 3]
    metric = shown(ClassReport(SPEC), scores_of(predicted), torch.tensor(true))
    assert metric.compute() == f1_score([0, 1, 1], [0, 1, 1], average="macro") == 1.0


def test_a_class_that_is_only_predicted_counts_with_an_f1_of_0():
    metric = shown(ClassReport(SPEC), scores_of([0, 1, 2]), torch.tensor([0, 1, 1]))
    assert metric.compute() == pytest.approx(f1_score([0, 1, 1], [0, 1, 2], average="macro", zero_division=0))


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (SPEC, list(NAMES)),
        (DataSpec((4,), "vector", "class", 3), ["0", "1", "2"]),
        (BINARY, ["0", "1"]),
        (DataSpec((4,), "vector", "binary", 1, class_names=("no", "yes")), ["no", "yes"]),
    ],
    ids=["names", "numbers", "binary", "binary-names"],
)
def test_the_classes_have_their_names_or_else_their_numbers(spec, names):
    assert column(ClassReport(spec).details(), "class") == names


def test_the_details_are_plain_json_and_the_support_is_whole():
    details = shown(ClassReport(SPEC), scores_of([0, 1, 2]), torch.tensor([0, 2, 2])).details()
    assert json.loads(json.dumps(details)) == details
    assert all(type(count) is int for count in column(details, "support"))
    assert list(details["classes"][0]) == ["class", "precision", "recall", "f1", "support"]


def test_before_the_first_batch_the_details_are_zeros():
    details = ClassReport(SPEC).details()
    assert np.shape(details["confusion"]) == (4, 4)
    assert not np.any(details["confusion"])
    assert [column(details, name) for name in ("precision", "recall", "f1", "support")] == [[0] * 4] * 4
    assert details["averages"] == []


def test_many_classes_are_counted_in_the_right_places():
    random = np.random.RandomState(0)
    true, predicted = random.randint(0, 300, (2, 2000))
    metric = ClassReport(DataSpec((4,), "vector", "class", 300))
    agree(shown(metric, scores_of(predicted, 300), torch.tensor(true), 128), true, predicted, 300)


def test_there_must_be_as_many_names_as_classes():
    with pytest.raises(ValueError, match="3 class_names for 2 classes"):
        ClassReport(DataSpec((4,), "vector", "binary", 1, class_names=("no", "yes", "maybe")))
