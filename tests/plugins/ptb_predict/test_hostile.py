"""Broken and hostile inputs, runs and checkpoints: a message and the right exit code, no traceback, no code is run."""

import csv
import hashlib
import io
import json
import os
import shutil
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest

MOST = 1 << 22  # bytes of a table
EVIL = "open('was-here', 'w')\nclass Evil: pass\n"


def cases(table, rare):
    """One for each name, those that are much like another one behind the marker."""
    assert {*rare} <= table.keys()
    for name, case in table.items():
        marks = [pytest.mark.reliability] if name in rare else []
        yield pytest.param(*case if isinstance(case, tuple) else (case,), marks=marks, id=name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, run_python):
    """A run on a table, one on pictures, one on arrays."""
    folder = tmp_path_factory.mktemp("runs")
    lines = ["a,b,town,kind", *(f"{n % 7},{n * 0.5},{'xy'[n % 2]},{'uv'[n % 2]}" for n in range(60))]
    (folder / "t.csv").write_text("\n".join(lines))
    for number in range(40):
        path = folder / "photos" / "uv"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), number * 5, np.uint8))
    np.save(folder / "x.npy", np.random.RandomState(0).normal(0, 1, (60, 3)).astype("f4"))
    np.save(folder / "y.npy", np.arange(60) % 3)
    data = {
        "table": ["csv", "dataset.path=t.csv", "dataset.target=kind", f"dataset.max_bytes={MOST}"],
        "pictures": ["image-folder", "dataset.root=photos", "dataset.size=8"],
        "arrays": ["arrays", "dataset.inputs=x.npy", "dataset.targets=y.npy"],
    }
    for name, (dataset, *settings) in data.items():
        given = ["run", "--model", "mlp", "--dataset", dataset, *settings, "--epochs", "1", "-q", "--output", name]
        done = run_python([sys.executable, "-m", "ptb", *given, "model.hidden=[4]"], cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def predict(runs, ptb, tmp_path):
    """``predict(run, *arguments)``, checked for what must never be."""

    def run(name, *arguments, **options):
        done = ptb("predict", name if (tmp_path / name).exists() else runs / name, *arguments, timeout=60, **options)
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "was-here").exists()
        return done

    return run


def png(width, height):
    """The beginning of a picture of any size, whose pixels nobody has."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


GOOD = b"a,b,town\n1,2,x\n"
TABLES = {
    "no column": (b"a,town\n1,x\n", "no column 'b'"),
    "text": (GOOD + b"one,2,x\n", "'a': 'one' is no number"),
    "nan": (GOOD + b"nan,2,x\n", "'a'"),
    "infinite": (GOOD + b"inf,2,x\n", "'a'"),
    "huge": (GOOD + b"1e999,2,x\n", "'a'"),
    "large": (GOOD + b"1e39,2,x\n", "'a'"),
    "many digits": (GOOD + b"9" * 5000 + b",2,x\n", "'a'"),
    "missing value": (GOOD + b",2,x\n", "no value for 'a'"),
    "short row": (GOOD + b"1,2\n1,2,x\n", "2 values"),
    "long row": (GOOD + b"1,2,x,4\n", "4 values"),
    "empty": (b"", "is empty"),
    "blank": (b"\n\n\n", "is empty"),
    "header alone": (b"a,b,town\n", "nothing to predict"),
    "nul": (GOOD + b"1,\0,x\n", "NUL"),
    "latin-1": (GOOD + "1,2,Gen\xe8ve\n".encode("latin-1"), "UTF-8"),
    "utf-16": (GOOD.decode().encode("utf-16"), ""),
    "open quote": (GOOD + b'1,"2,x\n' * 3, "quote"),
    "wide": (b",".join(b"c%d" % n for n in range(30_000)), "30,000 columns"),
    "pickle": (b"\x80\x04\x95cos\nsystem\n(S'touch was-here'\ntR.", ""),
    "gzip": (b"\x1f\x8b\x08\x00garbage", ""),
    "gzip bomb": (None, f"dataset.max_bytes={MOST} allows fewer"),
    "zip": (b"PK\x03\x04 and no more", ""),
    "parquet": (b"PAR1 and no more", "arquet"),
    "old excel": (b"\xd0\xcf\x11\xe0 and no more", ".xls"),
}


LIKE_OTHERS = ("infinite", "huge", "many digits", "blank", "header alone", "gzip", "zip", "old excel", "utf-16")


@pytest.mark.parametrize(("content", "said"), [*cases(TABLES, LIKE_OTHERS)])
def test_a_table_that_is_no_good(predict, tmp_path, content, said):
    if content is None:
        packed = zlib.compressobj(9, zlib.DEFLATED, 31)
        content = packed.compress(bytes(8 * MOST)) + packed.flush()
    (tmp_path / "new.csv").write_bytes(content)
    done = predict("table", "new.csv")
    assert done.returncode == 3, done.stderr
    assert said in done.stdout + done.stderr
    if content.startswith(GOOD) and said and said not in ("NUL", "UTF-8"):
        assert done.stdout.splitlines()[1].startswith("new.csv:2,")  # the good row has its prediction


def test_an_unseen_category_is_none_of_the_known_ones(predict, tmp_path):
    (tmp_path / "new.csv").write_bytes(GOOD + b"1,2,never seen\n")
    assert predict("table", "new.csv").returncode == 0


PICTURES = {
    "bomb": png(60_000, 60_000),
    "cut": png(8, 8)[:60],
    "no pixels": png(0, 8),
    "empty": b"",
    "text": b"<?php system('touch was-here'); ?>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
}


@pytest.mark.parametrize("content", [*cases(PICTURES, ("no pixels", "empty", "text"))])
def test_a_picture_that_is_no_good(predict, tmp_path, runs, content):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/1.png").write_bytes(content)
    shutil.copy(runs / "photos" / "u" / "0.png", tmp_path / "new/2.png")
    done = predict("pictures", "new")
    assert done.returncode == 3, done.stderr
    _, first, second = done.stdout.splitlines()
    assert first.startswith("new/1.png,,,")
    assert (second[:10], second[-1]) == ("new/2.png,", ",")


def loop(folder):
    (folder / "new/inner").mkdir(parents=True)
    (folder / "new/inner/again").symlink_to(folder / "new")
    return "new"


def fifo(folder, name="new.csv"):
    os.mkfifo(folder / name)
    return name


def link_to_itself(folder):
    (folder / "new.png").symlink_to("new.png")
    return "new.png"


def made(name):
    def make(folder):
        (folder / name).mkdir()
        return name

    return make


PLACES = {
    "folder loop": ("pictures", loop, 3),
    "fifo among pictures": ("pictures", lambda folder: fifo(folder, "new.png"), 3),
    "link to itself": ("pictures", link_to_itself, 3),
    "empty folder": ("pictures", made("new"), 3),
    "folder with the name of a picture": ("pictures", made("new.png"), 3),
    "fifo for a table": ("table", fifo, 3),
    "folder for a table": ("table", made("new.csv"), 3),
    "device": ("table", lambda folder: "/dev/null", 3),
    "endless device": ("table", lambda folder: "/dev/zero", 3),
    "fifo for an array": ("arrays", lambda folder: fifo(folder, "new.npy"), 3),
    "folder for an array": ("arrays", made("new.npy"), 3),
    "long name": ("table", lambda folder: "x" * 5000, 2),
    "nothing": ("table", lambda folder: "nowhere.csv", 2),
    "no home": ("table", lambda folder: "~nobody-of-this-name/x.csv", 2),
}


DOUBLE = ("folder with the name of a picture", "folder for an array", "fifo for an array", "device")


@pytest.mark.parametrize(("run", "place", "code"), [*cases(PLACES, DOUBLE)])
def test_a_place_where_no_file_is(predict, tmp_path, run, place, code):
    done = predict(run, place(tmp_path))
    assert done.returncode == code, done.stderr
    assert "error" in done.stderr


def saved(values, **options):
    def write(path):
        with path.open("wb") as stream:
            np.save(stream, values, **options)

    return write


def header(text):
    return lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v\x00" + text.ljust(117) + b"\n")


class Pickled:
    def __reduce__(self):
        return exec, ("open('was-here', 'w')",)


ARRAYS = {
    "pickle": saved(np.array([Pickled()], dtype=object), allow_pickle=True),
    "nan": saved(np.array([[1, np.nan, 2]], np.float32)),
    "huge": saved(np.array([[1, 1e300, 2]])),
    "other shape": saved(np.zeros((2, 7), np.float32)),
    "texts": saved(np.array(["a", "b", "c"])),
    "huge header": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 3), }"),
    "code in the header": header(b"__import__('os').system('touch was-here')"),
    "cut": lambda path: path.write_bytes(b"\x93NUMPY"),
}


@pytest.mark.parametrize("write", [*cases(ARRAYS, ("huge", "texts"))])
def test_an_array_that_is_no_good(predict, tmp_path, write):
    write(tmp_path / "new.npy")
    done = predict("arrays", "new.npy")
    assert done.returncode == 3, done.stderr
    assert not [row for row in done.stdout.splitlines()[1:] if row.endswith(",")]


LINES = {
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "no json": "{a: 1}",
    "number": "7",
    "null": "null",
    "strings": '["a", "b", "c"]',
    "uneven": "[[1], [2, 3]]",
    "long number": "[" + "9" * 10_000 + "]",
    "other columns": '{"z": 1}',
    "nested value": '{"a": {"b": [1]}, "b": 2, "town": "x"}',
    "nan": '{"a": NaN, "b": 2, "town": "x"}',
    "infinite": '{"a": Infinity, "b": 2, "town": "x"}',
    "surrogate": '{"a": "\\ud800", "b": 2, "town": "x"}',
    "nul in a path": '"\\u0000.csv"',
    "path of nothing": '"nowhere.csv"',
}


LIKEWISE = ("deep object", "null", "strings", "uneven", "other columns", "infinite", "path of nothing")


@pytest.mark.parametrize("line", [*cases(LINES, LIKEWISE)])
def test_a_line_that_is_no_good(predict, line):
    done = predict("table", "-", input=f'{line}\n{{"a": 1, "b": 2, "town": "x"}}\n')
    assert done.returncode == 3, done.stderr
    *bad, good = done.stdout.splitlines()[1:]
    assert len(bad) == 1
    assert (good[-1], bad[0][-1] == ",") == (",", False)


def changed(run, change, file="preprocessor.json"):
    """Change a run's preprocessor, with the hash that goes with it."""
    values = json.loads((run / file).read_text())
    change(values)
    (run / file).write_text(json.dumps(values))
    rehash(run)


def rehash(run):
    manifest = json.loads((run / "manifest.json").read_text())
    for name in manifest["preprocessor"]:
        manifest["preprocessor"][name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
    (run / "manifest.json").write_text(json.dumps(manifest))


def spec(**fields):
    return lambda run: changed(run, lambda values: values["spec"].update(fields))


def values(**fields):
    return lambda run: changed(run, lambda each: each.update(fields))


def content(name, data):
    def write(run):
        (run / name).write_bytes(data)
        if name.startswith("preprocessor"):
            rehash(run)

    return write


def no_state(run):
    changed(run, lambda values: values.update(state={}))


def other_checkpoint(run):
    for path in (run / "checkpoints").iterdir():
        other = next(iter(sorted((run.parent / "other/checkpoints").iterdir())))
        if path.is_file() and not path.is_symlink():
            shutil.copy(other, path)


RUNS = {
    "preprocessor of nothing": (content("preprocessor.json", b""), 5),
    "preprocessor of a list": (content("preprocessor.json", b"[]"), 5),
    "preprocessor nested deeply": (content("preprocessor.json", b"[" * 200_000), 5),
    "preprocessor of other bytes": (content("preprocessor.json", b"\xff\xfe"), 5),
    "tensors cut": (content("preprocessor.safetensors", b"\x08\0\0"), 5),
    "tensors with a huge header": (content("preprocessor.safetensors", b"\xff" * 8 + b"{}"), 5),
    "spec of texts": (spec(input_shape="3"), 5),
    "negative sizes": (spec(input_shape=[-3]), 5),
    "huge shapes": (spec(input_shape=[10**12]), None),
    "huge output": (values(output_size=10**13), None),
    "output of text": (values(output_size="many"), 5),
    "other inputs": (spec(inputs="sound"), 5),
    "more classes": (spec(class_names=["u", "v", "w"]), 5),
    "classes of numbers": (spec(class_names=[1, 2]), 5),
    "unknown fields": (spec(code="import os"), 5),
    "no state": (no_state, None),
    "another module": (values(target="evil:Evil"), 7),
    "code as target": (values(target="ptb_datasets.table_preprocessor:__import__('os')"), 7),
    "another class": (values(target="ptb_datasets.csv_settings:Csv"), 7),
    "dunder": (values(target="ptb_datasets.table_preprocessor:np.f2py"), 7),
    "another plugin": (values(distribution="evil"), 7),
    "manifest of nothing": (content("manifest.json", b""), 5),
    "manifest of a list": (content("manifest.json", b"[]"), 5),
    "manifest nested deeply": (content("manifest.json", b"[" * 200_000), 5),
    "config of nothing": (content("config.toml", b"\0"), 2),
    "checkpoint of another model": (other_checkpoint, 5),
}


ALIKE = (
    *("preprocessor of a list", "preprocessor of other bytes", "manifest of a list", "manifest nested deeply"),
    *("negative sizes", "huge output", "output of text", "classes of numbers", "dunder", "another class"),
)


@pytest.mark.parametrize(("change", "code"), [*cases(RUNS, ALIKE)])
def test_a_run_that_is_no_good(predict, runs, tmp_path, change, code):
    shutil.copytree(runs / "table", tmp_path / "copy")
    shutil.copytree(runs / "arrays", tmp_path / "other")
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "new.csv").write_bytes(GOOD)
    change(tmp_path / "copy")
    done = predict("copy", "new.csv")
    assert done.returncode == code if code else done.returncode in (3, 5, 6, 7), done.stderr
    assert done.stderr.startswith("error") or "\nerror" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_checkpoint_that_is_cut(predict, runs, tmp_path, name):
    shutil.copytree(runs / "table", tmp_path / "copy")
    (tmp_path / "new.csv").write_bytes(GOOD)
    for path in (tmp_path / "copy/checkpoints").iterdir():
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = predict("copy", "new.csv", "--checkpoint", name)
    assert done.returncode == 5, done.stderr


KEPT = "id,a,b,town\n007,1,2.50,x\nA-8,one,2,x\n,3,4,y\n"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_columns_are_copied_as_they_are_written(predict, tmp_path, form):
    (tmp_path / "new.csv").write_text(KEPT)
    assert predict("table", "new.csv", "--keep", "id", "--keep", "b", "-o", f"out.{form}").returncode == 3
    text = (tmp_path / f"out.{form}").read_text()
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [*rows[0]] == ["input", "id", "b", "prediction", "probability", "error"]
    else:
        rows = list(map(json.loads, text.splitlines()))
    assert [(row.get("id", ""), row.get("b", "")) for row in rows] == [("007", "2.50"), ("", ""), ("", "4")]
    assert "is no number" in rows[1]["error"]


@pytest.mark.parametrize(
    ("run", "column", "code", "said"),
    [
        ("table", "no", 3, "no column 'no'"),
        ("table", "prediction", 2, "rename it"),
        ("pictures", "id", 2, "leave it out"),
    ],
)
def test_a_column_that_cannot_be_copied(predict, tmp_path, run, column, code, said):
    (tmp_path / "new.csv").write_text(KEPT)
    done = predict(run, "new.csv", "--keep", column)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_columns_of_lines_are_copied(predict):
    row = '{"id": "%s", "a": 1, "b": 2, "town": "x"}'
    done = predict("table", "-", "--keep", "id", input="\n".join([row % "p", "{broken", row % "q", "7", row % "r"]))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == ["p", "", "q", "", "r"]
