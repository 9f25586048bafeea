import csv
import gzip
import json
import struct

import cv2
import numpy as np
import pytest

import ptb as api
from ptb_export import reading
from ptb_export.sidecar import compare, sidecar_of


class Trained:
    """What a sidecar is made of, without a training."""

    def __init__(self, bundle):
        self.preprocessor, self.spec = bundle.preprocessor, bundle.spec
        self.class_names = bundle.spec.class_names
        self.inputs = bundle.train[0][0][None]


def compared(built_in, name, *sources, **settings):
    model = Trained(built_in.build("dataset", name, **settings))
    return compare(model, sidecar_of(model), model.inputs, sources)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (20 + 7 * number, 33, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / label / f"{number}.{('png', 'jpg')[number % 2]}"), pixels)
    return tmp_path / "photos"


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("interpolation", ["auto", "nearest", "linear", "cubic", "area", "lanczos"])
@pytest.mark.parametrize("colour", ["colour", "grey"])
def test_pictures_are_read_as_the_run_reads_them(built_in, photos, fit, interpolation, colour):
    settings = {"root": str(photos), "size": [24, 18], "fit": fit, "interpolation": interpolation, "colour": colour}
    count, unread = compared(built_in, "image-folder", photos, **settings)
    assert (count, unread) == (12 + 4, None)


def test_what_the_sidecar_cannot_read_is_said_and_not_guessed(built_in, photos):
    settings = {"root": str(photos), "size": 24, "background": [255, 255, 255]}
    count, unread = compared(built_in, "image-folder", photos, **settings)
    assert count == 0
    assert "background, value_range and decode are not read from the sidecar" in unread


def write(path, header, rows):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=";")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def test_rows_are_read_as_the_run_reads_them(built_in, tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        [
            f"{row % 9 + 1}.{rng.integers(100, 999)},25",
            ("red", "blue", " green ")[row % 3],
            ("Yes", "no")[row % 2],
            f"2024-{row % 12 + 1:02}-{row % 28 + 1:02}",
            "" if row % 7 == 3 else f"{row},5 %",
            f"{row},25",
        ]
        for row in range(50)
    ]
    path = write(tmp_path / "t.csv", ["a", "colour", "sold", "day", "share", "price"], rows)
    settings = {
        "path": str(path),
        "target": "price",
        "separator": ";",
        "decimal": ",",
        "units": ["%"],
        "thousands": ".",
    }
    for dates in ("ordinal", "parts"):
        count, unread = compared(built_in, "csv", path, **settings, missing="mean", dates=dates)
        assert (count, unread) == (50, None)


def test_texts_are_read_as_the_run_reads_them(built_in, tmp_path):
    rows = [[f"The {word}'s No. {row}, {word}!", row % 2] for row in range(20) for word in ("cat", "dog")]
    path = write(tmp_path / "t.csv", ["text", "label"], rows)
    settings = {"path": str(path), "target": "label", "text": "text", "separator": ";", "max_length": 5}
    assert compared(built_in, "csv", path, **settings) == (40, None)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "int16", "uint16"])
def test_arrays_are_read_as_the_run_reads_them(built_in, tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 200, (30, 6)).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", np.arange(30) % 2)
    settings = {"inputs": str(tmp_path / "x.npy"), "targets": str(tmp_path / "y.npy"), "inputs_as": "vector"}
    count, unread = compared(built_in, "arrays", tmp_path / "x.npy", **settings)
    assert (count, unread) == (31, None)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("size", [(9, 9), (28, 28)])
def test_idx_files_are_read_as_the_run_reads_them(built_in, tmp_path, ending, size):
    pictures = np.random.default_rng(0).integers(0, 256, (20, *size), dtype=np.uint8)
    head = struct.pack(">HBB3i", 0, 8, 3, *pictures.shape)
    pack = gzip.compress if ending else bytes
    path = tmp_path / f"other-images-idx3-ubyte{ending}"
    path.write_bytes(pack(head + pictures.tobytes()))
    model = Trained(built_in.build("dataset", "digits", size=9))
    assert compare(model, sidecar_of(model), model.inputs, [path]) == (20 + 4, None)


@pytest.mark.parametrize("name", ["digits", "iris", "breast-cancer"])
def test_data_sets_without_files_are_compared_by_files_made_of_samples(built_in, name):
    count, unread = compared(built_in, name)
    assert count > 0
    assert unread is None


def test_a_changed_figure_of_a_column_is_found(built_in):
    model = Trained(built_in.build("dataset", "iris"))
    values = json.loads(sidecar_of(model))
    values["state"]["features"][1]["mean"][0] += 0.01
    with pytest.raises(api.NumericalError, match="another input"):
        compare(model, json.dumps(values), model.inputs, [])


def test_a_row_without_a_value_is_refused(built_in, tmp_path):
    model = Trained(built_in.build("dataset", "iris"))
    sidecar = json.loads(sidecar_of(model))
    names = [each["name"] for each in sidecar["state"]["features"]]
    path = tmp_path / "t.csv"
    path.write_text(",".join(names) + "\n1,,3,4\n")
    with pytest.raises(ValueError, match="a row has no value for"):
        reading.read(sidecar, path)


def test_channels_that_come_last_are_put_first():
    sidecar = {"state": {"dtype": "uint8", "channels_last": True}, "inputs": {"inputs": {"shape": [3, 4, 5]}}}
    values = np.random.RandomState(0).randint(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    assert np.array_equal(reading.array(sidecar, values), values.transpose(0, 3, 1, 2))


def test_a_table_without_a_header_has_numbered_columns(tmp_path):
    (tmp_path / "t.csv").write_text("5,a\n6,b\n")
    sidecar = {"state": {"reading": {"header": False}}}
    assert reading.table(sidecar, tmp_path / "t.csv") == [{"1": "5", "2": "a"}, {"1": "6", "2": "b"}]
    (tmp_path / "t.csv").write_text("")
    assert reading.table(sidecar, tmp_path / "t.csv") == []
