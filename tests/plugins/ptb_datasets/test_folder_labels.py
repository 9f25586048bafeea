import cv2
import numpy as np
import pytest

from ptb import DataError
from ptb_datasets.image_folder import image_folder


def folder(top, names):
    """Pictures whose pixels are all their own number."""
    for number, name in enumerate(names):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(top / name), np.full((4, 4, 3), number, np.uint8))
    return top


NAMES = [f"{number:02d}.png" for number in range(12)]


def build(top, table, **settings):
    if isinstance(table, bytes):
        (top.parent / "labels.csv").write_bytes(table)
    else:
        (top.parent / "labels.csv").write_text(table)
    options = {"size": 4, "val_fraction": 0, "test_fraction": 0, "labels": str(top.parent / "labels.csv")}
    return image_folder(root=str(top), **{**options, **settings})


def pairs(split):
    return sorted((int(split[row][0][0, 0, 0]), int(split[row][1])) for row in range(len(split)))


WANTED = [(number, number % 3 % 2) for number in range(12)]
LABELS = ["cat", "dog", "cat"]
ROWS = [(name, LABELS[number % 3]) for number, name in enumerate(NAMES)]
TABLES = {
    "plain": ("file,label\n" + "".join(f"{file},{label}\n" for file, label in ROWS), {}),
    "other-columns": (
        "id,breed,x\n" + "".join(f"{file},{label},1\n" for file, label in ROWS),
        {"file_column": "id", "label_column": "breed"},
    ),
    "semicolons": ("file;label\n" + "".join(f"{file};{label}\n" for file, label in ROWS), {}),
    "tabs": ("file\tlabel\n" + "".join(f"{file}\t{label}\n" for file, label in ROWS), {}),
    "bom-crlf": (b"\xef\xbb\xbf" + "".join(f"{f},{v}\r\n" for f, v in [("file", "label"), *ROWS]).encode(), {}),
    "quoted": ("file,label\n" + "".join(f'"{file}","{label}"\n' for file, label in ROWS), {}),
    "no-endings": ("file,label\n" + "".join(f"{file[:-4]},{label}\n" for file, label in ROWS), {}),
    "spaces": ("file , label\n" + "".join(f" {file} , {label} \n" for file, label in ROWS), {}),
    "empty-lines": ("file,label\n\n" + "".join(f"{file},{label}\n\n" for file, label in ROWS), {}),
    "dots": ("file,label\n" + "".join(f"./{file},{label}\n" for file, label in ROWS), {}),
}


@pytest.mark.parametrize(("table", "settings"), TABLES.values(), ids=TABLES)
def test_labels_come_from_a_table(tmp_path, table, settings):
    bundle = build(folder(tmp_path / "top", NAMES), table, **settings)
    assert bundle.spec.class_names == ("cat", "dog")
    assert pairs(bundle.train) == WANTED


def test_files_in_folders_are_named_with_either_slash(tmp_path):
    names = [f"{'ab'[number % 2]}/{number}.png" for number in range(6)]
    rows = "".join(
        f"{name if number < 3 else name.replace('/', chr(92))},{number % 2}\n" for number, name in enumerate(names)
    )
    bundle = build(folder(tmp_path / "top", names), f"file,label\n{rows}")
    assert pairs(bundle.train) == [(number, number % 2) for number in range(6)]
    assert bundle.spec.class_names == ("0", "1")


def test_files_that_the_table_does_not_name_are_not_used(tmp_path):
    top = folder(tmp_path / "top", NAMES)
    assert pairs(build(top, "file,label\n00.png,a\n01.png,b\n").train) == [(0, 0), (1, 1)]


def test_labels_are_in_natural_order_or_in_the_given_one(tmp_path):
    top = folder(tmp_path / "top", NAMES)
    table = "file,label\n" + "".join(f"{name},{number}\n" for number, name in enumerate(NAMES))
    assert build(top, table).spec.class_names == tuple(map(str, range(12)))
    bundle = build(top, table, classes=("10", "2"))
    assert pairs(bundle.train) == [(2, 1), (10, 0)]
    assert "labels left out: 0, 1, 3, 4" in bundle.notes[1]


def test_a_column_may_say_the_splits(tmp_path):
    splits = ["train"] * 6 + ["val"] * 4 + ["test"] * 2
    rows = [f"{name},{'ab'[number % 2]},{splits[number]}\n" for number, name in enumerate(NAMES)]
    bundle = build(
        folder(tmp_path / "top", NAMES),
        "file,label,where\n" + "".join(rows[::-1]),
        split_column="where",
        val_fraction=None,
        test_fraction=None,
    )
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 6, "val": 4, "test": 2}
    assert pairs(bundle.val) == [(6, 0), (7, 1), (8, 0), (9, 1)]


WRONG = {
    "no-column": (
        "name,label\n00.png,a\n",
        "line 1: there is no column 'file'; there are name, label. .*file_column=name",
    ),
    "no-label": ("file,kind\n00.png,a\n", "line 1: there is no column 'label'; .*dataset.label_column=kind"),
    "twice": ("file,label,label\n00.png,a,b\n", "line 1: two columns are called 'label'"),
    "empty": ("", "line 1: there is no column 'file'; there are none"),
    "few-values": ("file,label\n00.png,a\n01.png\n", "line 3: 1 values, and the header has 2"),
    "no-value": ("file,label\n00.png,a\n01.png,\n", "line 3: the column 'label' is empty"),
    "no-file": ("file,label\n00.png,a\n,b\n", "line 3: the column 'file' is empty"),
    "same-file": ("file,label\n00.png,a\n01.png,b\n00.png,b\n", "line 4: the file '00.png' is named in line 2 already"),
    "not-there": ("file,label\n00.png,a\n99.png,b\n", r"99\.png: named in .*labels\.csv, line 3, and not there"),
    "leads-out": ("file,label\n00.png,a\n../labels.csv,b\n", "line 3, and not there"),
    "one-label": ("file,label\n00.png,a\n01.png,a\n", "must have 2 labels at least in the column 'label', and has a"),
    "latin-1": (b"file,label\n00.png,B\xe4r\n", r"is no text in UTF-8 \(byte \d+\)"),
    "open-quote": ('file,label\n00.png,"a\n01.png,b\n', "no CSV file"),
    "nul": (b"file,label\n0\0.png,a\n01.png,b\n", "NUL"),
}


@pytest.mark.parametrize(("table", "message"), WRONG.values(), ids=WRONG)
def test_a_table_that_cannot_be_used_is_told_with_its_line(tmp_path, table, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        build(folder(tmp_path / "top", NAMES), table)


def test_an_unknown_split_class_or_file_is_told(tmp_path):
    top = folder(tmp_path / "top", NAMES)
    table = "file,label,where\n00.png,a,train\n01.png,b,dev\n"
    with pytest.raises(DataError, match="line 3: the split 'dev'; valid are train, val, test"):
        build(top, table, split_column="where", val_fraction=None, test_fraction=None)
    with pytest.raises(DataError, match="has the label 'c'; there are a, b"):
        build(top, table, classes=("a", "c"))
    with pytest.raises(DataError, match=r"dataset\.labels=.*none\.csv: No such file"):
        build(top, table, labels=str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match="no row says train"):
        build(top, "file,label,where\n00.png,a,val\n01.png,b,val\n", split_column="where")


def test_a_bad_picture_of_a_table_can_be_left_out(tmp_path):
    top = folder(tmp_path / "top", NAMES)
    (top / "03.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="left out 1 of 12 files"):
        bundle = build(top, TABLES["plain"][0], on_bad_sample="skip")
    assert pairs(bundle.train) == [pair for pair in WANTED if pair[0] != 3]
