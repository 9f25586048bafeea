"""Tables in the forms in which people have them."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from ptb import ConfigError, DataError
from ptb_datasets.csv_table import csv_table

ROWS = [(round(n * 0.37 % 5, 2), "ab"[n % 2], n % 2) for n in range(40)]
PLAIN = "x,c,y\n" + "".join(f"{x},{c},{y}\n" for x, c, y in ROWS)
FRAME = pd.DataFrame(ROWS, columns=["x", "c", "y"])


@pytest.fixture
def load(tmp_path):
    def run(content, name="table.csv", **settings):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return csv_table(path=path, **{"target": "y"} | settings)

    return run


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def decimals(text, mark):
    return text.replace(".", mark)


FORMS = {
    "gzip": (gzip.compress(PLAIN.encode()), {}),
    "zip": (zipped([("table.csv", PLAIN)]), {}),
    "zip-of-a-mac": (zipped([("table.csv", PLAIN), ("__MACOSX/._table.csv", "x"), (".DS_Store", "x")]), {}),
    "zip-path-out": (zipped([("../../table.csv", PLAIN)]), {}),
    "utf-16": (PLAIN.encode("utf-16"), {"encoding": "utf-16"}),
    "cp1252": (PLAIN.encode("cp1252"), {"encoding": "cp1252"}),
    "tab": (PLAIN.replace(",", "\t"), {"separator": "tab"}),
    "backslash-t": (PLAIN.replace(",", "\t"), {"separator": r"\t"}),
    "pipe": (PLAIN.replace(",", "|"), {"separator": "pipe"}),
    "space": (PLAIN.replace(",", " "), {"separator": "space"}),
    "sep-line": ("sep=;\n" + PLAIN.replace(",", ";"), {}),
    "sep-line-bom": (b"\xef\xbb\xbfsep=;\r\n" + PLAIN.replace(",", ";").encode(), {}),
    "sep-line-tab": ("SEP=\t\n" + PLAIN.replace(",", "\t"), {}),
    "comments": ("# one\n# two, three\n" + PLAIN + "# the end\n", {"comment": "#"}),
    "comment-inside": (PLAIN.replace("\n", "\n// and so on\n", 7), {"comment": "//"}),
    "comment-and-sep": ("# one\nsep=;\n" + PLAIN.replace(",", ";"), {"comment": "#"}),
    "decimal-comma": (decimals(PLAIN.replace(",", ";"), ","), {"separator": ";", "decimal": ","}),
    "quoted-decimal-comma": (
        "x,c,y\n" + "".join(f'"{str(x).replace(".", ",")}",{c},{y}\n' for x, c, y in ROWS),
        {"decimal": ","},
    ),
    "percent": (PLAIN.replace(",a", "%,a").replace(",b", " %,b"), {"units": "%"}),
    "currency": ("x,c,y\n" + "".join(f"$ {x},{c},{y}\n" for x, c, y in ROWS), {"units": ["$"]}),
    "index": (FRAME.to_csv(), {}),
    "index-saved-twice": (FRAME.rename_axis("Unnamed: 0").to_csv(), {}),
    "trailing-comma": (PLAIN.replace("\n", ",\n"), {}),
    "trailing-commas": (PLAIN.replace("\n", ",,,\n"), {}),
    "exclude": (PLAIN.replace("\n", ",text\n").replace("text", "note", 1), {"exclude": "note"}),
    "mac-lines": (PLAIN.replace("\n", "\r"), {}),
    "mixed-lines": (PLAIN.replace("\n", "\r\n", 9), {}),
    "quoted": ('"' + PLAIN.replace(",", '","').replace("\n", '"\n"')[:-1], {}),
    "line-ends-in-values": (PLAIN.replace("c,y", '"c",y').replace("a,", '" a\n",'), {}),
    "spaces": (PLAIN.replace(",", " , "), {}),
}


@pytest.mark.parametrize(("content", "settings"), FORMS.values(), ids=FORMS)
def test_a_form_is_read_as_the_plain_table(load, content, settings):
    expected = load(PLAIN)
    bundle = load(content, "other", **settings)
    for split, samples in bundle.splits.items():
        assert all(map(torch.equal, samples.tensors, expected.splits[split].tensors))
    assert bundle.spec == expected.spec


@pytest.mark.parametrize(
    ("content", "noted"),
    [
        (FRAME.to_csv(), "column 1 (no name) left out: it numbers the rows"),
        (FRAME[::-1].to_csv(), "column 1 (no name) left out: it numbers the rows"),
        (FRAME.rename_axis("Unnamed: 0").to_csv(), "column 1 (Unnamed: 0) left out: it numbers the rows"),
        (PLAIN.replace("\n", ",\n"), "column 4 (no name) left out: it is empty"),
    ],
    ids=["index", "sorted-otherwise", "saved-twice", "comma"],
)
def test_a_column_that_is_left_out_is_noted(load, content, noted):
    assert noted in load(content).notes


def test_an_index_that_is_asked_for_is_a_feature(load):
    content = FRAME.rename_axis("Unnamed: 0").to_csv()
    assert load(content, features=["Unnamed: 0", "x"]).spec.input_shape == (2,)


def test_thousands_are_what_pandas_reads(load):
    values = [-1_234_567.25, 1_000.0, 12.5, 999_999.0]
    text = "x;y\n" + "".join(f"{values[n % 4]:,}".replace(",", "'") + f";{n % 2}\n" for n in range(40))
    inputs = load(text, separator=";", thousands="'", val_fraction=0, test_fraction=0).train.tensors[0]
    theirs = pd.read_csv(io.StringIO(text), sep=";", thousands="'")["x"].to_numpy()
    assert inputs[:, 0].numpy() == pytest.approx((theirs - theirs.mean()) / theirs.std(), rel=1e-6)


@pytest.mark.parametrize("wrong", ["1'23", "12'3456", "'123", "1'234'56", "1.234'567"])
def test_thousands_marks_stand_between_groups_of_three(load, wrong):
    text = "x,y\n" + "".join(f"{n}'234,{n % 2}\n" for n in range(1, 41)) + f"{wrong},1\n"
    with pytest.raises(DataError, match=r"line 42: \"?'?.*is no number"):
        load(text, thousands="'")


def excel(sheets, formula=None):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        if formula:
            sheet["A3"] = formula
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


TABLE = [("x", "c", "y"), *ROWS]


def same(bundle, expected):
    return all(map(torch.equal, bundle.train.tensors, expected.train.tensors))


def test_an_excel_file_is_read_as_the_plain_table(load):
    assert same(load(excel({"data": TABLE}), "t.xlsx"), load(PLAIN))


def test_blank_rows_and_columns_of_a_sheet_are_passed_over(load):
    rows = [(), ("x", "c", "y", None), (), *((*row, "") for row in ROWS), ()]
    assert same(load(excel({"data": rows}), "t.xlsx"), load(PLAIN))


def test_of_several_sheets_one_is_named(load):
    content = excel({"notes": [("a",)], "my data": TABLE})
    with pytest.raises(DataError, match=r"2 sheets; .*: dataset.sheet=notes or dataset.sheet='my data'"):
        load(content, "t.xlsx")
    with pytest.raises(ConfigError, match=r"has no sheet 'x'; it has 'notes', 'my data'"):
        load(content, "t.xlsx", sheet="x")
    assert same(load(content, "t.xlsx", sheet="my data"), load(PLAIN))


def test_a_formula_without_a_value_is_said(load):
    with pytest.raises(DataError, match=r"row 3: the formula '=1\+1' has no saved value; open the file in Excel"):
        load(excel({"data": TABLE}, "=1+1"), "t.xlsx")


def test_a_fault_in_a_sheet_names_its_row(load):
    rows = [*TABLE[:5], ("big", "a", 1), *TABLE[5:]]
    with pytest.raises(DataError, match=r"t\.xlsx, column 'x', row 6: 'big' is no number"):
        load(excel({"data": rows}), "t.xlsx")


def parquet(frame=FRAME, **options):
    pytest.importorskip("pyarrow")
    stream = io.BytesIO()
    frame.to_parquet(stream, **options)
    return stream.getvalue()


def test_a_parquet_file_is_read_as_the_plain_table(load):
    assert same(load(parquet(), "t.parquet"), load(PLAIN))


def test_a_parquet_file_with_dates_booleans_and_missing_values_is_read(load):
    frame = FRAME.assign(day=pd.date_range("2024-01-01", periods=40), ok=[n % 3 == 0 for n in range(40)])
    frame.loc[3, "x"] = np.nan
    bundle = load(parquet(frame), "t.parquet", missing="mean")
    used = {feature["name"]: feature["used_as"] for feature in bundle.preprocessor.features}
    assert used == {"x": "number", "c": "category", "day": "date", "ok": "boolean"}


@pytest.mark.parametrize("cut", [8, 100, -9, -40])
def test_a_parquet_file_that_is_damaged_is_a_data_error(load, cut):
    with pytest.raises(DataError, match=r"as Parquet: .*; the file is damaged"):
        load(parquet()[:cut], "t.parquet")


def test_a_parquet_file_that_lies_is_a_data_error(load):
    content = bytearray(parquet())
    for place in range(4, len(content) // 2):
        content[place] ^= 0x55
    with pytest.raises(DataError, match="damaged"):
        load(bytes(content), "t.parquet")


def test_a_parquet_file_that_unpacks_to_too_much_is_refused(load):
    frame = pd.DataFrame({"x": np.zeros(2_000_000), "y": np.zeros(2_000_000)})
    with pytest.raises(DataError, match=r"2,000,000 rows of 2 columns, .*dataset\.max_bytes=1000000 allows fewer"):
        load(parquet(frame), "t.parquet", max_bytes=1_000_000)


def lying(content, size):
    """A zip archive whose headers say that its file has ``size`` bytes."""
    found = content.index(b"PK\x01\x02") + 24
    return content[:22] + struct.pack("<I", size) + content[26:found] + struct.pack("<I", size) + content[found + 4 :]


BAD = {
    "gzip-bomb": (gzip.compress(bytes(50 << 20)), {"max_bytes": 1 << 20}, "has unpacked more than 1,048,576 bytes"),
    "zip-bomb": (zipped([("t.csv", bytes(50 << 20))]), {"max_bytes": 1 << 20}, "has unpacked more than 1,048,576 byt"),
    "zip-lies": (lying(zipped([("t.csv", bytes(50 << 20))]), 10), {"max_bytes": 1 << 20}, "cannot unpack .*damaged"),
    "excel-bomb": (
        zipped([("[Content_Types].xml", "<x/>"), ("xl/a.xml", bytes(50 << 20))]),
        {"max_bytes": 1 << 20},
        r"has unpacked 52,\d+,\d+ bytes",
    ),
    "zip-of-two": (zipped([("a.csv", PLAIN), ("b.csv", PLAIN)]), {}, r"it holds 2 \('a.csv', 'b.csv'\); unpack it"),
    "zip-empty": (zipped([("folder/", "")]), {}, r"it holds 0 \(none\); unpack it"),
    "zip-in-zip": (zipped([("a.zip", zipped([("b.csv", PLAIN)]))]), {}, "the file that is packed in it is not CSV"),
    "gzip-cut": (gzip.compress(PLAIN.encode())[:-20], {}, "cannot unpack .*; the file is damaged"),
    "gzip-other": (b"\x1f\x8b\x08\0" + bytes(60), {}, "cannot unpack"),
    "zip-cut": (zipped([("a.csv", PLAIN)])[:-30], {}, "cannot unpack .*; the file is damaged"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), {}, r"an old Excel file \(\.xls\); save it as \.xlsx"),
    "other-encoding": (
        "x,c,y\n1,ä,0\n".encode("latin-1"),
        {},
        "line 2: the byte 0xe4 .*dataset.encoding=latin-1,",
    ),
    "windows": ("x,c,y\n1,€,0\n".encode("cp1252"), {}, "line 2: the byte 0x80 is not .* add dataset.encoding=cp1252,"),
    "not-that-encoding": (PLAIN.encode(), {"encoding": "utf-16"}, "not text in dataset.encoding=utf-16; add .*utf-8"),
    "said-to-be-ascii": (
        "x,c,y\n1,ä,0\n",
        {"encoding": "ascii"},
        "line 2: it is not text .*dataset.encoding=utf-8",
    ),
    "cut-character": (PLAIN.encode() + b"\xc3", {}, "line 42: the byte 0xc3 is not UTF-8 text"),
    "comment": ("# hello\n" + PLAIN, {}, "line 1: '# hello' looks like a comment; add dataset.comment='#'"),
    "semicolon": (PLAIN.replace(",", ";"), {}, "1 column, 'x;c;y'; try dataset.separator=';'"),
    "quoted-semicolon": (
        '"x";"y"\n"1";"0"\n',
        {},
        "line 1: .* separated by ';'; try dataset.separator=';'",
    ),
    "two-semicolons": ("x;c,d;y\n1;2,3;0\n", {}, "has 2 columns, 'x;c'; try dataset.separator=';'"),
    "tab": (PLAIN.replace(",", "\t"), {}, "try dataset.separator=tab$"),
    "decimal-comma": (
        decimals(PLAIN.replace(",", ";"), ","),
        {"separator": ";"},
        r"'x', line 2: '0,0' is no number, and looks like a decimal comma: add dataset\.decimal=','; or",
    ),
    "decimal-point": (
        PLAIN.replace(",", ";"),
        {"separator": ";", "decimal": ","},
        r"'0\.0' is no number, and looks like a decimal point: add dataset\.decimal='\.'",
    ),
    "either": (
        "x;y\n" + "".join(f"{n},500;{n % 2}\n" for n in range(40)),
        {"separator": ";"},
        r"a decimal comma: add dataset\.decimal=','; or looks like a thousands mark: add dataset\.thousands=',';",
    ),
    "percent": (
        "x,y\n" + "".join(f"{n}%,{n % 2}\n" for n in range(40)),
        {},
        r"""a currency or percent sign: add dataset\.units='\["%"\]'""",
    ),
    "target": (
        "x;y\n" + "".join(f"{n};{n},5\n" for n in range(40)),
        {"separator": ";"},
        r"column 'y', line 2: '0,5' is no number, and looks like a decimal comma: add dataset\.decimal=','",
    ),
    "day-or-month": (
        "x,y\n" + "".join(f"0{1 + n % 9}/0{1 + n % 7}/2024,{n % 2}\n" for n in range(40)),
        {},
        r"day or month first: add dataset\.date_format='%d/%m/%Y' or dataset\.date_format='%m/%d/%Y'",
    ),
    "date-format": (
        "x,y\n" + "".join(f"2024-01-0{1 + n % 9},{n % 2}\n" for n in range(40)) + "soon,1\n",
        {"date_format": "%Y-%m-%d"},
        "'soon' is no date as dataset.date_format='%Y-%m-%d' has it",
    ),
    "marks": (
        "x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(40)) + "?,1\n",
        {},
        r"'\?' is no number, .* add dataset\.missing_values='\[\"\", \"NA\", .*\"NULL\", \"\?\"\]'",
    ),
    "many-missing": (
        "a,b,c,y\n1,,2,0\n2,3,,1\n3,,4,1\n",
        {},
        r"'b', line 2: 2 of 3 values are missing; .*; values are missing too in 'c' \(1\)",
    ),
    "weight": ("x,w,y\n" + "1,1,0\n2,-1,1\n" * 20, {"sample_weight": "w"}, "'w', line 3: '-1' is no weight: 0 or more"),
    "no-weight": ("x,w,y\n" + "1,0,0\n2,0,1\n" * 20, {"sample_weight": "w"}, "the weight of every training row is 0"),
    "nameless": ("x,,y\n1,2,0\n", {}, "column 2 of the header has no name"),
    "nameless-first": (",x,y\n" + "a,2,0\na,3,1\n" * 9, {}, "column 1 of the header has no name"),
    "nameless-last": ("x,y,\n" + "1,0,7\n2,1,7\n" * 9, {}, "column 3 of the header has no name"),
}


@pytest.mark.parametrize(("content", "settings", "message"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_used_is_a_data_error(load, tmp_path, content, settings, message):
    with pytest.raises(DataError, match=message):
        load(content, "bad.csv", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


WRONG = {
    "separator": ({"separator": "ab"}, "separator: must have at most 1 character, or be one of tab"),
    "thousands": ({"thousands": "1"}, "thousands: must be a mark such as a comma"),
    "decimal": ({"decimal": ";"}, r"decimal: .*'\.' or ','"),
    "both-marks": ({"decimal": ",", "thousands": ","}, "thousands must be another mark than decimal"),
    "encoding": ({"encoding": "klingon"}, "encoding: no such encoding; try utf-8"),
    "no-text": ({"encoding": "base64"}, "encoding: is not an encoding of text"),
    "val-alone": ({"val": "x.csv"}, "val and test belong to train"),
    "path-and-train": ({"train": "x.csv"}, "give path, one table that is split, or train"),
    "fold": ({"folds": 5}, "it lacks fold: folds says into how many parts"),
    "fold-of": ({"folds": 5, "fold": 5}, "of 5 folds, the last one is fold=4"),
    "split-and-time": ({"split": "s", "time": "t"}, "split and time both say how rows are split"),
    "group-and-split": ({"split": "s", "group": "g"}, "split and group both say how rows are split"),
    "split-and-fraction": ({"split": "s", "val_fraction": 0.2}, "val_fraction has no rows to choose"),
    "positive": ({"kind": "real", "positive": "1"}, "positive belongs to a binary target"),
    "kind": ({"kind": "multilabel"}, "kind=multilabel needs a column for each label"),
    "several": ({"target": ["a", "b"], "kind": "class"}, "kind=class has one column as its target"),
    "twice": ({"target": ["a", "a"]}, "target must name at least one column, and none twice"),
    "used-and-excluded": ({"exclude": "x", "features": ["x"]}, "dataset.exclude: 'x' is used"),
    "excluded-target": ({"exclude": "y"}, "dataset.exclude: 'y' is the target"),
    "split-is-a-feature": ({"split": "c", "features": ["c"]}, "dataset.features: 'c' is the column of another setting"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG.values(), ids=WRONG)
def test_settings_that_are_wrong_are_config_errors(load, settings, message):
    with pytest.raises(ConfigError, match=message):
        load(PLAIN, **settings)


@pytest.mark.parametrize(
    ("header", "target", "typed"),
    [("2022,2023", 2023, "2023"), ("a,true", True, "true"), ("a,1.5", 1.5, "1.5"), ("2022,2023", "2023", "2023")],
)
def test_names_that_toml_takes_for_numbers_can_be_typed(load, header, target, typed):
    bundle = load(header + "\n" + "1,0\n2,1\n" * 20, target=target)
    assert bundle.preprocessor.target["columns"] == [typed]


def test_a_damaged_member_of_a_zip_is_a_data_error(load):
    content = bytearray(zipped([("t.csv", PLAIN)]))
    content[60] ^= 0xFF
    with pytest.raises(DataError, match="cannot unpack"):
        load(bytes(content))


def test_columns_of_numbers_whose_words_come_late_are_read_as_texts(load):
    words = {"a": 1200, "b": 1500, "c": 2900, "d": 2990, "e": 2995}
    rows = [[*("w" if n >= first else n % 7 for first in words.values()), n % 2] for n in range(3000)]
    text = ",".join([*words, "y"]) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    bundle = load(text, categorical=list(words), val_fraction=0, test_fraction=0)
    assert bundle.spec.input_shape == (40,)
    with pytest.raises(DataError, match="column 'd', line 2992: 'w' is no number, and most values of this column are"):
        load(text, categorical=["a", "b", "c"])
