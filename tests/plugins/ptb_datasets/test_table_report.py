import json

import numpy as np
import pandas as pd
import pytest

from ptb_datasets.csv_table import csv_table

random = np.random.RandomState(2)
ROWS = 200
FRAME = pd.DataFrame(
    {
        "id": np.arange(ROWS),
        "code": random.permutation(ROWS) * 7,
        "size": random.normal(50, 9, ROWS).round(3),
        "same": 4,
        "town": random.choice(["Bern", "Chur"], ROWS),
        "one": "x",
        "new": random.choice(["yes", "no"], ROWS),
        "built": [f"20{n % 20:02}-01-01" for n in range(ROWS)],
        "notes": [f"text {n}" for n in range(ROWS)],
        "w": 1.5,
        "price": random.normal(250_000, 50_000, ROWS),
    }
)
FRAME.loc[41, "size"] = -9999


@pytest.fixture
def report(tmp_path):
    def run(**settings):
        path = tmp_path / "table.csv"
        FRAME.to_csv(path, index=settings.pop("index", False))
        options = {"target": "price", "exclude": ("notes",), "val_fraction": 0, "test_fraction": 0} | settings
        with pytest.warns(UserWarning, match="column 'id' numbers the rows: add dataset.exclude=id, or"):
            bundle = csv_table(path=path, **options)
        found = bundle.describe()
        assert json.loads(json.dumps(found)) == found
        return found

    return run


def test_each_column_is_listed_with_what_it_was_taken_for_and_why(report):
    found = report(sample_weight="w", index=True)
    assert [(column["name"], column["used_as"]) for column in found["columns"]] == [
        ("", "excluded"),
        ("id", "number"),
        ("code", "number"),
        ("size", "number"),
        ("same", "number"),
        ("town", "category"),
        ("one", "category"),
        ("new", "boolean"),
        ("built", "date"),
        ("notes", "excluded"),
        ("w", "weight"),
        ("price", "target"),
    ]
    assert all(column["why"] for column in found["columns"])
    assert found["columns"][-3]["why"] == "dataset.exclude names it"


def test_figures_are_those_of_pandas(report):
    columns = {column["name"]: column for column in report()["columns"]}
    for name in ("size", "price"):
        ours = [columns[name][key] for key in ("mean", "std", "smallest", "largest", "values")]
        theirs = FRAME[name]
        expected = [theirs.mean(), theirs.std(ddof=0), theirs.min(), theirs.max(), theirs.nunique()]
        assert ours == pytest.approx(expected, rel=1e-12)
    assert columns["town"]["categories"] == ["Bern", "Chur"]
    assert columns["new"]["share_of_yes"] == pytest.approx((FRAME["new"] == "yes").mean())
    assert (columns["built"]["first"], columns["built"]["last"]) == ("2000-01-01", "2019-01-01")


def test_what_looks_wrong_is_said_with_what_to_type(report):
    found = "\n".join(report()["warnings"])
    for line in (
        "column 'id' numbers the rows, as an id does; dataset.exclude=id leaves it out",
        "column 'code' has another whole number in every row, as an id has; dataset.exclude=code leaves it out",
        "column 'same' is constant in training; dataset.exclude=same leaves it out",
        "column 'one' has the one value 'x' in training; dataset.exclude=one leaves it out",
        "column 'size', table.csv, line 43: -9999.0 is 14 standard deviations from the mean; if it stands",
    ):
        assert line in found
    assert len(found.splitlines()) == 6  # and w is constant


def test_what_is_wrong_no_more_is_not_said(report):
    found = report(missing="mean", missing_values=["-9999.0"], exclude=["notes", "code", "same", "one", "w"])
    assert len(found["warnings"]) == 1


def test_transforms_are_said_with_their_numbers(report):
    found = report(dates="parts")["transforms"]
    size, price = FRAME["size"], FRAME["price"]
    sign = "-" if size.mean() > 0 else "+"
    assert f"size: (value {sign} {abs(size.mean()):.6g}) / {size.std(ddof=0):.6g}" in found
    assert found[-1] == f"target price: (value - {price.mean():.6g}) / {price.std(ddof=0):.6g}"
    assert "town: a 0 or 1 for each of 2 values: Bern, Chur" in found
    assert "new: no is 0, yes is 1" in found
    assert any(line.startswith("built: year, month, day, weekday: (value - 2009.5)") for line in found)
