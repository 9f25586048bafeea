"""Columns that give the target away, and rows that belong together."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest

from ptb import DataError
from ptb_datasets.csv_table import csv_table

ROWS = 200
random = np.random.RandomState(0)
FRAME = pd.DataFrame(
    {
        "x": random.normal(size=ROWS).round(4),
        "price": (price := random.normal(100, 9, ROWS).round(2)),
        "euros": (price * 1.0876 + 3).round(6),
        "same": price,
        "near": (price + random.normal(0, 0.1, ROWS)).round(2),
        "label": (label := random.choice(["a", "b", "c"], ROWS)),
        "code": [{"a": 7, "b": 2, "c": 5}[each] for each in label],
        "word": [{"a": "one", "b": "two", "c": "six"}[each] for each in label],
        "coarse": ["x" if each == "a" else "y" for each in label],
        "patient_id": (who := random.randint(1000, 1040, ROWS)),
        "person": [f"p{each}" for each in who],
        "size": random.randint(1000, 1040, ROWS),
    }
)
AWAY = "gives the target"


@pytest.fixture
def said(tmp_path, recwarn):
    """The warnings of the data set and those of `ptb data show` that speak of leaks."""
    path = tmp_path / "t.csv"

    def run(columns, frame=FRAME, **settings):
        frame[columns].to_csv(path, index=False)
        recwarn.clear()
        bundle = csv_table(path=path, **settings)
        warned = [str(each.message) for each in recwarn if AWAY in str(each.message)]
        shown = bundle.describe()["warnings"]
        assert [each for each in shown if AWAY in each] == warned
        return warned, [each for each in shown if "in train too" in each]

    return run


@pytest.mark.parametrize(
    ("column", "how"), [("same", "it is equal to it"), ("euros", "it is 1.0876 times the target and a constant")]
)
def test_a_copy_of_a_number_is_found_in_any_unit(said, column, how):
    assert said(["x", column, "price"], target="price")[0] == [
        f"column '{column}' gives the target 'price' away: {how}. If it is not known when the model is used, add "
        f"dataset.exclude={column}"
    ]


@pytest.mark.parametrize("column", ["code", "word"])
def test_another_word_for_each_class_is_found(said, column):
    (line,), _ = said(["x", column, "label"], target="label")
    assert "each of its values goes with one value of the target" in line


def test_every_target_is_looked_at(said):
    assert len(said(["x", "euros", "same", "price", "near"], target=("price", "near"))[0]) == 2


@pytest.mark.parametrize(
    ("columns", "target"),
    [(["x", "near", "price"], "price"), (["x", "coarse", "label"], "label"), (["patient_id", "size", "x"], "x")],
    ids=["nearly", "some-classes", "numbers"],
)
def test_what_is_only_related_is_none(said, columns, target):
    assert said(columns, target=target)[0] == []


def test_few_rows_say_nothing(said):
    frame = FRAME[:12].assign(label=["a", "b"] * 6, word=["one", "two"] * 6)
    assert said(["x", "word", "label"], frame, target="label", val_fraction=0, test_fraction=0)[0] == []


def test_missing_values_are_passed_over(said):
    frame = FRAME.assign(same=FRAME["same"].where(FRAME.index % 5 > 0))
    assert len(said(["x", "same", "price"], frame, target="price", missing="mean")[0]) == 1


def test_rows_of_one_person_in_several_splits_are_noticed(said):
    columns = ["x", "patient_id", "size", "label"]
    (line,) = said(columns, target="label")[1]
    assert line.startswith("column 'patient_id': ")
    assert line.endswith("dataset.group=patient_id keeps them in one split")
    assert said(columns, target="label", group="patient_id")[1] == []


def test_numbers_of_each_row_and_other_columns_are_no_persons(said):
    frame = FRAME.assign(patient_id=random.permutation(ROWS) + 1000)
    assert said(["x", "patient_id", "size", "label"], frame, target="label")[1] == []


def test_names_that_repeat_are_offered_as_groups(tmp_path):
    path = tmp_path / "t.csv"
    FRAME[["person", "x", "label"]].to_csv(path, index=False)
    with pytest.raises(DataError, match="text with 40 different values") as caught:
        csv_table(path=path, target="label")
    (typed,) = re.findall(r"dataset\.group=(\S+)", str(caught.value))
    assert csv_table(path=path, target="label", group=shlex.split(typed)[0]).spec.input_shape == (1,)
    names = FRAME.assign(person=[f"n{n}" for n in range(ROWS)])
    names[["person", "x", "label"]].to_csv(path, index=False)
    with pytest.raises(DataError, match=r"categorical=person$"):
        csv_table(path=path, target="label")
