"""Tables whose first line is a row already, and what messages say to type."""

import gzip
import re
import shlex

import numpy as np
import pandas as pd
import pytest
import torch

from ptb import ConfigError, DataError
from ptb_datasets.csv_table import csv_table

random = np.random.RandomState(0)
FRAME = pd.DataFrame(
    {"a": random.normal(size=60).round(3), "b": random.randint(0, 900, 60), "c": random.choice(["u", "v"], 60)}
)


def tensors(bundle):
    return [tensor for split in bundle.splits.values() for tensor in split.tensors]


def plain(path, **options):
    FRAME.to_csv(path, **options)


def zipped(path, **options):
    path.write_bytes(gzip.compress(FRAME.to_csv(**options).encode()))


WAYS = {
    "plain": (plain, {}, {}),
    "quoted": (plain, {"quoting": 1}, {}),
    "semicolon": (plain, {"sep": ";"}, {"separator": ";"}),
    "tab": (plain, {"sep": "\t"}, {"separator": "tab"}),
    "crlf": (plain, {"lineterminator": "\r\n"}, {}),
    "gzip": (zipped, {}, {}),
}


@pytest.mark.parametrize(("write", "options", "settings"), WAYS.values(), ids=WAYS)
def test_the_first_line_is_a_row(tmp_path, write, options, settings):
    named, bare = tmp_path / "named.csv", tmp_path / "bare.csv"
    write(named, index=False, **options)
    write(bare, index=False, header=False, **options)
    wanted = csv_table(path=named, target="c", **settings)
    bundle = csv_table(path=bare, target=3, header=False, **settings)
    assert all(map(torch.equal, tensors(wanted), tensors(bundle)))
    assert [each["name"] for each in bundle.preprocessor.features] == ["1", "2"]
    first = min(int(name.partition(":")[2]) for split in bundle.splits for name in bundle.names(split))
    assert first == 1
    read = list(bundle.preprocessor.read([bare]))
    assert [sample.error for sample in read] == [None] * 60
    folder = tmp_path / "splits"
    folder.mkdir()
    written = bundle.write_splits(folder)
    lines = sorted(line for path in written.values() for line in path.read_text().splitlines())
    assert len(lines) == 60


def test_a_sheet_needs_no_header_either(tmp_path):
    FRAME.to_excel(path := tmp_path / "t.xlsx", index=False, header=False)
    bundle = csv_table(path=path, target="3", header=False)
    assert sum(len(split) for split in bundle.splits.values()) == 60
    (folder := tmp_path / "splits").mkdir()
    train = pd.read_excel(bundle.write_splits(folder)["train"], header=None)
    assert len(train) == len(bundle.train)


def test_parquet_has_names(tmp_path):
    FRAME.to_parquet(path := tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"whose columns have names: leave out dataset\.header=false"):
        csv_table(path=path, target="c", header=False)


@pytest.mark.parametrize("target", ["label", "3"])
def test_the_message_about_a_first_line_of_values_says_what_helps(tmp_path, target):
    FRAME.to_csv(path := tmp_path / "t.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"add dataset\.header=false: they are then 1 to 3$"):
        csv_table(path=path, target=target)


def test_another_separator_is_noticed_without_a_header_too(tmp_path):
    FRAME.to_csv(path := tmp_path / "t.csv", index=False, header=False, sep=";")
    with pytest.raises(DataError, match=r"try dataset.separator=';'"):
        csv_table(path=path, target="3", header=False)


def test_a_column_that_is_not_there_is_told_without_talk_of_a_header(tmp_path):
    FRAME.to_csv(path := tmp_path / "t.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"has no column 'c'; it has 1, 2, 3$"):
        csv_table(path=path, target="c", header=False)


@pytest.mark.parametrize("key", ["target", "features", "exclude", "categorical"])
@pytest.mark.parametrize("mark", [",", ", ", ";"])
def test_several_columns_in_one_word_are_told_as_a_list(tmp_path, key, mark):
    FRAME.to_csv(path := tmp_path / "t.csv", index=False)
    settings = {"target": "c"} | {key: f"a{mark}b"}
    with pytest.raises((DataError, ConfigError)) as caught:
        csv_table(path=path, **settings)
    word = re.search(rf"dataset\.{key}=('.*')$", str(caught.value))[1]
    assert shlex.split(word) == ['["a", "b"]']


def test_what_is_wrong_with_each_column_is_said_at_once(tmp_path):
    frame = FRAME.assign(name=[f"n{n}" for n in range(60)], w=[*range(59), "?"])
    frame.loc[3, "a"] = np.nan
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    with pytest.raises(DataError) as caught:
        csv_table(path=path, target="c")
    missing, name, word = str(caught.value).splitlines()
    assert "column 'a', line 5: 1 of 60 values is missing; add dataset.missing=drop or dataset.missing=mean" in missing
    assert "column 'name', line 2: text with 60 different values" in name
    assert "column 'w', line 61: '?' is no number" in word
    with pytest.raises(DataError) as caught:
        csv_table(path=path, target="c", missing="mean")
    assert len(str(caught.value).splitlines()) == 2
    typed = {"missing": "mean", "exclude": ("name",), "missing_values": ("", "?")}
    assert csv_table(path=path, target="c", **typed).spec.input_shape == (3,)


def test_very_many_faults_are_counted(tmp_path):
    frame = FRAME.assign(**{f"n{place}": [f"{place} {n}" for n in range(60)] for place in range(15)})
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"\n  there are 5 more$"):
        csv_table(path=path, target="c")
