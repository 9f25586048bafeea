import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb import ConfigError, DataError
from ptb.registry.settings import validate
from ptb_datasets.csv_file import MOST_COLUMNS, read_header, rows_of
from ptb_datasets.csv_table import csv_table
from ptb_datasets.splits import stratified_split
from ptb_datasets.table_content import Content


def saved(folder, text, name="table.csv"):
    path = Path(folder) / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def table(header, rows):
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def numbered(count=40):
    """Rows that tell by their first value which they are."""
    random = np.random.RandomState(0)
    return [(n, round(random.normal(), 3), "red" if n % 3 else "blue", "yes" if n % 4 else "no") for n in range(count)]


HEADER = "n,x,colour,y"


@pytest.fixture
def load(tmp_path):
    def run(content, **settings):
        return csv_table(path=saved(tmp_path, content), **{"target": "y", **settings})

    return run


def whole(bundle):
    return [torch.cat(parts) for parts in zip(*(split.tensors for split in bundle.splits.values()), strict=True)]


def test_numbers_are_standardized_and_categories_one_hot(load):
    bundle = load(table(HEADER, numbered()), val_fraction=0, test_fraction=0)
    assert (bundle.val, bundle.test) == (None, None)
    inputs, targets = bundle.train.tensors
    assert (inputs.dtype, inputs.shape) == (torch.float32, (40, 4))
    rows = numbered()
    for place in (0, 1):
        values = np.array([row[place] for row in rows])
        assert inputs[:, place].numpy() == pytest.approx((values - values.mean()) / values.std(), abs=1e-5)
    assert inputs[:, 2].tolist() == [float(row[2] == "blue") for row in rows]
    assert inputs[:, 3].tolist() == [float(row[2] == "red") for row in rows]
    assert targets.tolist() == [[float(row[3] == "yes")] for row in rows]
    spec = bundle.spec
    assert (spec.inputs, spec.input_shape, spec.target, spec.output_size) == ("vector", (4,), "binary", 1)
    assert (spec.class_names, spec.class_counts) == (("no", "yes"), (10, 30))


KINDS = {
    "two-words": (["a", "b"], "binary", 1, ("a", "b")),
    "0-and-1": ([0, 1], "binary", 1, ("0", "1")),
    "three-words": (["c", "a", "b"], "class", 3, ("a", "b", "c")),
    "few-whole-numbers": ([2, 10, 1], "class", 3, ("1", "2", "10")),
    "whole-numbers-as-floats": (["2.0", "10.0", "1"], "class", 3, ("1", "2", "10")),
    "floats": ([0.5, 1.5, 2.5], "real", 1, ()),
    "many-whole-numbers": (list(range(21)), "real", 1, ()),
}


@pytest.mark.parametrize(("values", "target", "size", "names"), KINDS.values(), ids=KINDS)
def test_the_kind_of_the_target_is_found(load, values, target, size, names):
    bundle = load(table("x,y", [(n, values[n % len(values)]) for n in range(63)]))
    assert (bundle.spec.target, bundle.spec.output_size, bundle.spec.class_names) == (target, size, names)
    inputs, targets = whole(bundle)
    assert len(inputs) == 63
    assert targets.dtype == (torch.int64 if target == "class" else torch.float32)
    assert targets.shape == ((63,) if target == "class" else (63, 1))
    counts = () if target == "real" else bundle.train.tensors[1].flatten().long().bincount().tolist()
    assert bundle.spec.class_counts == tuple(counts)


@pytest.mark.parametrize(("kind", "size"), [("class", 2), ("binary", 1), ("real", 1)])
def test_the_kind_can_be_told(load, kind, size):
    bundle = load(table("x,y", [(n, n % 2) for n in range(40)]), kind=kind)
    assert (bundle.spec.target, bundle.spec.output_size) == (kind, size)


@pytest.mark.parametrize("names", [("01234", "1234", "09999"), (str(2**53), str(2**53 + 1), str(2**53 + 2))])
def test_digits_that_are_codes_are_not_merged_as_numbers(load, names):
    rows = table("x,y", [(n, names[n % 3]) for n in range(60)])
    spec = load(rows).spec
    assert (spec.target, spec.class_names) == ("class", tuple(sorted(names)))
    assert load(rows, kind="real").spec.target == "real"


def test_a_real_target_is_standardized_unless_that_is_turned_off(load):
    text = table("x,y", [(n, n * 1.5 + 100) for n in range(40)])
    targets = load(text).train.tensors[1]
    assert targets.mean().item() == pytest.approx(0, abs=1e-5)
    assert targets.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert whole(load(text, standardize_target=False))[1].min() == 100


@pytest.mark.parametrize("values", [(0, 1), ("a", "b"), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("wanted", [True, False])
def test_only_a_real_target_can_be_standardized_or_not(load, values, wanted):
    text = table("x,y", [(n, values[n % len(values)]) for n in range(63)])
    with pytest.raises(
        ConfigError, match=r"standardize_target belongs to a real target, and 'y' is of kind (class|bin)"
    ):
        load(text, standardize_target=wanted)


def test_splits_are_stratified_disjoint_and_complete_and_depend_on_the_seed(load):
    text = table("x,y", [(n, "ab"[n % 4 == 0]) for n in range(80)])
    bundle = load(text, val_fraction=0.1, test_fraction=0.2)
    counts = [split.tensors[1].sum().item() for split in bundle.splits.values()]
    assert counts == [14, 2, 4]
    assert [len(split) for split in bundle.splits.values()] == [56, 8, 16]
    assert len(whole(bundle)[0].unique()) == 80
    again, other = (load(text, val_fraction=0.1, test_fraction=0.2, split_seed=seed) for seed in (0, 1))
    assert torch.equal(again.val.tensors[0], bundle.val.tensors[0])
    assert not torch.equal(other.val.tensors[0], bundle.val.tensors[0])


def test_no_statistic_comes_from_other_rows_than_those_of_training(load):
    rows = [(n, n % 5, "ab"[n % 2], f"word{n % 3} common", n % 2) for n in range(60)]
    parts = stratified_split(np.arange(60) % 2, (0.15, 0.15), 0)
    test_rows = set(parts[2].tolist())
    changed = [(n, 1e6, "unseen", "novel text", y) if n in test_rows else (n, x, c, t, y) for n, x, c, t, y in rows]
    for settings_ in ({"features": ("x", "c")}, {"text": "t", "max_length": 3}):
        before, after = (load(table("n,x,c,t,y", part), **settings_) for part in (rows, changed))
        assert before.spec == after.spec
        assert torch.equal(before.train.tensors[0], after.train.tensors[0])
        assert not torch.equal(before.test.tensors[0], after.test.tensors[0])
    unseen = load(table("n,x,c,t,y", changed), features=("c",)).test.tensors[0]
    assert unseen.abs().sum() == 0
    words = load(table("n,x,c,t,y", changed), text="t", max_length=3).test.tensors[0]
    assert words.unique(dim=0).tolist() == [[1, 1, 0]]


def test_text_becomes_tokens(load):
    text = "review,y\n" + '"Good, good film",1\nbad film,0\n' * 10
    bundle = load(text, text="review", max_length=4)
    spec = bundle.spec
    assert (spec.inputs, spec.input_shape, spec.vocabulary) == ("tokens", (4,), 5)
    inputs, _ = whole(bundle)
    assert inputs.dtype == torch.int64
    assert {tuple(row) for row in inputs.tolist()} == {(3, 3, 2, 0), (4, 2, 0, 0)}
    assert load(text, text="review").spec.input_shape == (64,)
    assert load(text, text="review", vocabulary=3).spec.vocabulary == 3


def test_features_are_taken_in_the_order_named(load):
    rows = table("a,b,y", [(n, 100 - n, n % 2) for n in range(20)])
    forwards, backwards = (load(rows, features=names) for names in (("a", "b"), ("b", "a")))
    assert torch.equal(forwards.train.tensors[0], backwards.train.tensors[0].flip(1))
    assert load(rows, features=("b",)).spec.input_shape == (1,)


def test_numbers_can_be_names(load):
    rows = table("zip,y", [(10_000 + n % 30, n % 2) for n in range(300)])
    assert load(rows).spec.input_shape == (1,)
    bundle = load(rows, categorical=("zip",))
    assert bundle.spec.input_shape == (30,)
    assert bundle.train.tensors[0].sum(1).unique().tolist() == [1]


MISSING = table("x,c,y", [(n if n != 7 else "", "ab"[n % 2] if n != 9 else "NA", n % 2) for n in range(40)])


def test_a_missing_value_stops_unless_there_is_a_policy(load):
    with pytest.raises(DataError, match=r"column 'x', line 9: 1 of 40 values is missing; add dataset\.missing=drop or"):
        load(MISSING)


def test_rows_that_lack_a_value_can_be_left_out(load):
    with pytest.warns(UserWarning, match=r"left out the rows of .*table\.csv that lack a value, 2 of 40"):
        bundle = load(MISSING, missing="drop")
    assert len(whole(bundle)[0]) == 38


def test_a_column_that_is_not_used_may_lack_values(load):
    assert len(whole(load(MISSING, features=("c",), missing_values=("",)))[0]) == 40


def test_missing_numbers_can_become_the_mean_and_missing_names_nothing(load):
    inputs = load(MISSING, missing="mean", val_fraction=0, test_fraction=0).train.tensors[0]
    assert inputs[7, 0].abs() < 1e-6
    assert inputs[9, 1:].tolist() == [0, 0]
    assert inputs[8, 1:].tolist() == [1, 0]


def test_the_mean_that_stands_for_a_missing_number_is_that_of_the_training_rows(load):
    targets = np.arange(40) % 2
    training, _, test = stratified_split(targets, (0.15, 0.15), 0)
    rows = [["" if n == training[0] else n, targets[n]] for n in range(40)]
    before = load(table("x,y", rows), missing="mean").train.tensors[0]
    rows[test[0]][0] = 1e6
    assert torch.equal(load(table("x,y", rows), missing="mean").train.tensors[0], before)


def test_a_missing_target_is_never_filled(load):
    text = table("x,y", [(n, n % 2 if n != 3 else "") for n in range(20)])
    with pytest.raises(DataError, match=r"column 'y', line 5: 1 of 20 values is missing; add dataset\.missing=drop$"):
        load(text, missing="mean")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("x;y\n" + "1;0\n2;1\n" * 20, {"separator": ";"}),
        ("x\ty\n" + "1\t0\n2\t1\n" * 20, {"separator": "\t"}),
        (b"\xef\xbb\xbfy,x\r\n" + b"0,1\r\n1,2\r\n" * 20, {}),
        ("x,y\n\n" + "1,0\n\n2,1\n" * 20 + "\n\n", {}),
        (" x , y \n" + " 1 ,0 \n2, 1\n" * 20, {}),
        ('"x","y"\n' + '"1","0"\n"2","1"\n' * 20, {}),
    ],
    ids=["semicolon", "tab", "bom-and-crlf", "blank-lines", "spaces", "quotes"],
)
def test_the_usual_dialects_are_read_alike(load, text, options):
    bundle = load(text, **options)
    expected = load("x,y\n" + "1,0\n2,1\n" * 20)
    assert all(map(torch.equal, bundle.train.tensors, expected.train.tensors))


ROWS = "1,0\n2,1\n" * 20
HOSTILE = {
    "empty": ("", {}, "is empty"),
    "blank": ("\n\n\n", {}, "is empty"),
    "header-only": ("x,y\n", {}, "has a header and no rows"),
    "no-header": (ROWS, {}, "the first line, '1' and so on, looks like values"),
    "no-header-mixed": ("1,a\n2,b\n3,c\n", {}, "no column 'y'.*it has 1, a; the first line .*dataset.header=false"),
    "no-such-target": ("x,yes\n" + ROWS, {}, r"\.target: .* no column 'y' \(did you mean 'yes'\?\); it has x"),
    "no-such-feature": ("x,y\n" + ROWS, {"features": ("X",)}, r"dataset\.features: .*'X' \(did you mean 'x'\?\)"),
    "no-such-text": ("x,y\n" + ROWS, {"text": "z"}, r"dataset\.text: .* has no column 'z'; it has x, y"),
    "no-such-categorical": ("x,y\n" + ROWS, {"categorical": ("z",)}, r"dataset\.categorical: .* no column 'z'"),
    "duplicate-names": ("x,y,x\n1,0,1\n", {}, "columns 1 and 3 are both called 'x'"),
    "duplicate-after-strip": ("x,y, x\n1,0,1\n", {}, "columns 1 and 3 are both called 'x'"),
    "unnamed": ("x,,y\n1,2,0\n", {}, "column 2 of the header has no name"),
    "short-row": ("x,y\n1,0\n2\n3,1\n", {}, "line 3: 1 value, and the header has 2"),
    "long-row": ("x,y\n1,0\n2,1,5\n", {}, "line 3: 3 values, and the header has 2"),
    "long-rows": ("x,y\n1,0,\n2,1,\n", {}, "line 2: 3 values, and the header has 2"),
    "open-quote": ('x,y\n1,"0\n2,1\n', {}, "line 2: a double quote is opened and not closed; a value holds"),
    "open-quote-further-on": ('x,y\n1,0\n\n2,"1\n3,1\n4,0\n', {}, "line 4: a double quote is opened"),
    "open-quote-before-a-quote": ('x,y\n1,"0\n2,1"0\n', {}, "line 2: there is text after .* on line 3;"),
    "open-quote-and-much-text": ('x,y\n1,"0' + "\n2,1" * 40_000, {}, "line 2: a value has more than 131,072 "),
    "text-after-quote": ('x,y\n1,"0"z\n', {}, "line 2: there is text after a closing double quote; a value"),
    "latin-1": (b"x,y\n1,0\n\xe9,1\n", {}, "line 3: the byte 0xe9 is not UTF-8 text"),
    "utf-16": ("x,y\n1,0\n".encode("utf-16"), {}, "is UTF-16 text; add dataset.encoding=utf-16, or save"),
    "nul": (b"x,y\n1,0\n2\x00,1\n", {}, "line 3: a NUL byte is not UTF-8 text; save .*, or mend the file"),
    "binary": (bytes(range(1, 256)), {}, "line 2: the byte 0x80 is not UTF-8 text; add dataset.encoding=cp1252"),
    "one-column": ("y\n0\n1\n", {}, "no column besides the target 'y'"),
    "wrong-separator": ("x;y\n1;0\n", {}, r"has 1 column, 'x;y'; try dataset\.separator=';'"),
    "constant-target": ("x,y\n" + "1,5\n2,5\n" * 9, {"kind": "real"}, "'y', line 2: the target is constant"),
    "constant-target-spelled": ("x,y\n1,5\n2,5.0\n", {}, "the target is constant"),
    "one-class": ("x,y\n" + "1,a\n2,a\n" * 9, {}, "the target is of one class only: every row has 'a'"),
    "text-declared-real": ("x,y\n1,2\n2,3\n3,four\n", {"kind": "real"}, "'y', line 4: 'four' is no number"),
    "third-class": ("x,y\n1,a\n2,b\n3,c\n", {"kind": "binary"}, "'y', line 4: 'c' is a third value"),
    "too-many-classes": (table("x,y", [(n, f"c{n}") for n in range(1001)]), {}, "1,001 different values, too many"),
    "real-classes": (table("x,y", [(n, n * 1.5) for n in range(40)]), {"kind": "class"}, "its own.*kind=real"),
    "names-as-classes": (table("x,y", [(n, f"c{n}") for n in range(40)]), {}, "own, .*; choose another"),
    "word-among-numbers": ("x,y\n" + ROWS + "3x,0\n", {}, "'x', line 42: '3x' is no number, and most values .* are"),
    "infinite": ("x,y\n" + ROWS + "inf,0\n", {}, "'x', line 42: 'inf' is not finite"),
    "too-large": ("x,y\n" + ROWS + "1e300,0\n", {}, "'x', line 42: '1e300' is not finite as a 32-bit number"),
    "infinite-target": ("x,y\n1,1.5\n2,-inf\n", {}, "'y', line 3: '-inf' is not finite"),
    "free-text": (table("x,y", [(f"t{n}", n % 2) for n in range(99)]), {}, "text with 69 different values, at most 20"),
    "many-names": (table("x,y", [(n, n % 2) for n in range(2000)]), {"categorical": ("x",)}, "1400 .* at most 1000"),
    "nothing-there": ("x,y\n" + "NA,0\nNA,1\n" * 9, {"missing": "mean"}, "'x': no training row has a value"),
    "nothing-left": ("x,y\n" + "NA,0\nNA,1\n" * 9, {"missing": "drop"}, "every row lacks a value"),
    "no-words": ("x,y\n" + "--,0\n!,1\n" * 9, {"text": "x"}, "'x', line 2: no training row has a word"),
    "too-few-rows": ("x,y\n1,0\n2,1\n", {}, r"too few rows for dataset\.val_fraction=0\.15, 2 in all"),
    "too-large-a-file": ("x,y\n" + ROWS, {"max_bytes": 50}, "has 164 bytes; dataset.max_bytes=50 allows fewer"),
    "formula": ("x,y\n" + ROWS + "=1+1,0\n", {}, "'=1\\+1' is no number"),
    "code": ("x,y\n" + ROWS + "__import__('os').abort(),0\n", {}, "is no number"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_table_that_cannot_be_used_is_told_with_column_and_line(load, tmp_path, text, options, message):
    with pytest.raises(DataError, match=message) as caught:
        load(text, **options)
    assert str(tmp_path / "table.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing.csv", "No such file"),
        (".", "is not a file"),
        ("fifo", "is not a file"),
        ("nul\0byte", "cannot read"),
        ("https://127.0.0.1:1/table.csv", "No such file"),
        ("~no-such-user-here/x", "cannot read .*~no-such-user-here/x.: No such file"),
    ],
    ids=["missing", "folder", "fifo", "nul", "url", "home"],
)
def test_a_path_that_is_no_file_is_a_data_error(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with pytest.raises(DataError, match=message):
        csv_table(path=path, target="y")


def wide(folder, columns):
    path = folder / "wide.csv"
    path.write_text(",".join(f"c{number}" for number in range(columns)) + "\n" + ",".join("1" * columns) + "\n")
    return path


def test_more_columns_than_can_be_read_are_refused_before_they_are_looked_at(tmp_path):
    with pytest.raises(DataError, match=r"has 1,000,000 columns, and 20,000 can be read; .* the data set arrays"):
        csv_table(path=str(wide(tmp_path, 1_000_000)), target="c0")


def test_as_many_columns_as_can_be_read_are_read(tmp_path):
    content = Content(wide(tmp_path, MOST_COLUMNS), "csv", ",")
    ((line, row),) = rows_of(content, MOST_COLUMNS)
    assert (len(read_header(content)), len(row), line) == (MOST_COLUMNS, MOST_COLUMNS, 2)


def test_a_file_of_a_gigabyte_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "large.csv"
    with path.open("wb") as stream:
        stream.truncate(2**30)
    with pytest.raises(DataError, match=r"1,073,741,824 bytes; dataset\.max_bytes=536870912 allows fewer"):
        csv_table(path=str(path), target="y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, r"dataset\.path: null is no value in a config file; leave it out"),
        ({"target": ""}, r"dataset\.target: .*at least 1 character"),
        ({"text": "t", "features": ["x"]}, "dataset.text: is used instead of features and categorical"),
        ({"max_length": 5}, "dataset.max_length: belongs to text; .*, got 5"),
        ({"vocabulary": 5}, "dataset.vocabulary: belongs to text; .*, got 5"),
        ({"separator": '"'}, "dataset.separator: cannot be a quote"),
        ({"separator": "::"}, "must have at most 1 character"),
        ({"features": ["x", "x"]}, "dataset.features: names a column twice"),
        ({"split_seed": 1, "val_fraction": 0, "test_fraction": 0}, "dataset.split_seed: chooses what .*, both 0"),
    ],
    ids=["path", "target", "text-and-features", "length", "vocabulary", "quote", "long-separator", "twice", "no-split"],
)
def test_options_that_do_not_go_together_are_config_errors(built_in, options, message):
    with pytest.raises(ConfigError, match=message):
        built_in.build("dataset", "csv", **{"path": "x.csv", "target": "y", **options})


@pytest.mark.parametrize("kind", ["class", "binary"])
def test_a_kind_that_is_told_is_held_against_the_options_before_the_file_is_read(built_in, kind):
    options = {"path": "x.csv", "target": "y", "kind": kind, "standardize_target": False}
    with pytest.raises(ConfigError, match="standardize_target: belongs to a real target, and kind is"):
        validate(built_in.get("dataset", "csv").settings_model(), options)


def test_a_path_and_a_target_are_required(built_in):
    with pytest.raises(ConfigError) as caught:
        built_in.build("dataset", "csv")
    assert {problem.key for problem in caught.value.problems} == {"dataset.target"}
    with pytest.raises(ConfigError, match="give path, one table that is split, or train"):
        built_in.build("dataset", "csv", target="y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ("x", "y")}, "'y' is the target"),
        ({"text": "y"}, "'y' is the target"),
        ({"features": ("x",), "categorical": ("c",)}, "'c' is none of the features"),
    ],
    ids=["features", "text", "categorical"],
)
def test_columns_that_cannot_be_features_are_config_errors(load, options, message):
    with pytest.raises(ConfigError, match=message):
        load("x,c,y\n1,a,0\n2,b,1\n", **options)


values = st.sampled_from(["", "1", "2.5", "-3", "a", "b", "NA", "inf", "1e400", "9" * 40, '"q"', "\u00fc", " 7 ", "=1"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(values, min_size=1, max_size=4), min_size=1, max_size=12),
    st.sampled_from(["auto", "class", "binary", "real"]),
    st.sampled_from(["error", "mean"]),
    st.booleans(),
)
def test_whatever_a_file_holds_it_is_read_or_it_is_a_data_error(rows, kind, missing, text):
    content = "\n".join([",".join(["y", "x", "z", "w"][: len(rows[0])]), *map(",".join, rows)])
    with tempfile.TemporaryDirectory() as folder, suppress(DataError):
        bundle = csv_table(
            path=saved(folder, content),
            target="y",
            kind=kind,
            missing=missing,
            text="x" if text else None,
            val_fraction=0,
            test_fraction=0,
        )
        inputs, targets = bundle.train.tensors
        assert torch.isfinite(inputs.float()).all()
        assert torch.isfinite(targets.float()).all()
        assert inputs.shape[1:] == bundle.spec.input_shape


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_noise_is_a_data_error_and_nothing_else(noise):
    with tempfile.TemporaryDirectory() as folder, suppress(DataError):
        csv_table(path=saved(folder, b"x,y\n1,0\n2,1\n" + noise), target="y", val_fraction=0, test_fraction=0)


@pytest.mark.parametrize(
    ("rows", "target", "remedy"),
    [
        ([(n, "", n % 2) for n in range(40)], "z", "add dataset.exclude=y$"),
        ([(n, "", n % 2) for n in range(40)], "y", "choose another dataset.target$"),
        ([(n, "" if n == 3 else "ab"[n % 2], n % 2) for n in range(40)], "z", "add dataset.missing=drop$"),
        ([(n, "" if n == 3 else n, n % 2) for n in range(40)], "z", "=drop or dataset.missing=mean$"),
    ],
    ids=["empty-feature", "empty-target", "text", "number"],
)
def test_the_advice_for_missing_values_helps(load, rows, target, remedy):
    with pytest.raises(DataError, match=remedy):
        load(table("x,y,z", rows), target=target)
