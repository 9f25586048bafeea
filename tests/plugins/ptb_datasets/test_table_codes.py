import numpy as np
import pandas as pd
import pytest
import torch

from ptb_datasets import table_codes
from ptb_datasets.csv_table import csv_table
from ptb_datasets.table_codes import is_padded, padded_columns
from ptb_datasets.table_content import Content

ZIPS = ("01234", "02139", "60601", "94103")


def saved(folder, rows, header="zip,x,y"):
    path = folder / "table.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def rows(zips, count=60):
    return [(zips[n % len(zips)], n / 7, n % 2) for n in range(count)]


@pytest.mark.parametrize("text", ["01", "007", "00"])
def test_a_whole_number_with_zeros_in_front_is_a_code(text):
    assert is_padded(text)


@pytest.mark.parametrize("text", ["0", "10", "0.5", "00.5", "-01", "", "0x1", "1e05"])
def test_what_amounts_are_written_with_is_none(text):
    assert not is_padded(text)


@pytest.mark.parametrize("quote", ["", '"'], ids=["plain", "quoted"])
def test_zip_codes_are_categories_as_they_are_written(tmp_path, quote):
    path = saved(tmp_path, rows([f"{quote}{zip}{quote}" for zip in ZIPS]))
    bundle = csv_table(path=path, target="y", val_fraction=0, test_fraction=0)
    assert bundle.preprocessor.features[0]["categories"] == sorted(ZIPS)
    assert bundle.train.tensors[0][:4, :4].equal(torch.eye(4))
    column = next(each for each in bundle.describe()["columns"] if each["name"] == "zip")
    assert column["why"] == "its values are codes: numbers with zeros in front"
    assert "zip taken as categories" in bundle.notes


@pytest.mark.parametrize("quote", ["", '"'], ids=["plain", "quoted"])
def test_codes_are_found_after_the_rows_that_are_looked_at_first(tmp_path, quote):
    many = [(f"{quote}60601{quote}", n / 7, n % 2) for n in range(3000)]
    many[2500] = (f"{quote}01234{quote}", 1, 1)
    bundle = csv_table(path=saved(tmp_path, many), target="y", val_fraction=0, test_fraction=0)
    assert bundle.preprocessor.features[0]["categories"] == ["01234", "60601"]


def test_too_many_codes_stay_numbers_with_a_warning_whose_advice_is_followed(tmp_path):
    path = saved(tmp_path, [(f"{n:05}", n / 7, n % 2) for n in range(100, 160)])
    said = r"column 'zip' looks like codes, such as 00100, .* dataset.categorical=zip .* dataset.exclude=zip"
    with pytest.warns(UserWarning, match=said):
        bundle = csv_table(path=path, target="y")
    assert bundle.preprocessor.features[0]["used_as"] == "number"
    assert any(said.startswith("column 'zip'") for said in bundle.describe()["warnings"])
    assert csv_table(path=path, target="y", exclude=("zip",)).spec.input_shape == (1,)
    assert csv_table(path=path, target="y", categorical=("zip",)).preprocessor.features[0]["used_as"] == "category"


def test_frames_of_texts_have_codes_too(tmp_path):
    frame = pd.DataFrame({"zip": [ZIPS[n % 4] for n in range(60)], "y": np.arange(60) % 2})
    frame.to_parquet(path := tmp_path / "table.parquet")
    assert csv_table(path=path, target="y").preprocessor.features[0]["categories"] == sorted(ZIPS)


def test_amounts_and_dates_are_none(tmp_path):
    path = saved(tmp_path, [(f"0.{n:03}", f"{n % 28 + 1:02}.01.2024", n % 2) for n in range(60)])
    bundle = csv_table(path=path, target="y")
    assert [each["used_as"] for each in bundle.preprocessor.features] == ["number", "date"]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_no_block_ends_where_a_code_is_not_seen(tmp_path, monkeypatch, block):
    path = saved(tmp_path, [("10", "007", "3"), ("01", "8", "9")], "a,b,c")
    monkeypatch.setattr(table_codes, "BLOCK", block)
    assert padded_columns(Content(path, "csv", ","), 3, [0, 1, 2]) == {0, 1}


def test_the_bytes_are_looked_at_once_where_there_are_none(tmp_path, monkeypatch):
    path = saved(tmp_path, [("10", "0.07", "100")], "a,b,c")
    monkeypatch.setattr(table_codes, "lines_without_quotes", None)
    assert padded_columns(Content(path, "csv", ","), 3, [0, 1, 2]) == set()
