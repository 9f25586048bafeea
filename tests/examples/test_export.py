import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import ptb as api
from ptb_datasets.digits import digits

EXAMPLES = Path(__file__).parents[2] / "examples" / "export"


def example(name, *arguments, cwd):
    """The lines that a script prints, in an interpreter that finds no ptb."""
    code = f"import sys, runpy; sys.modules['ptb'] = None; sys.path.insert(0, {str(EXAMPLES)!r})\n"
    code += f"runpy.run_path({name!r}, None, '__main__')"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def script(name):
    return str(EXAMPLES / name)


def test_the_reading_code_is_that_of_the_command():
    ours = Path(__file__).parents[2] / "plugins" / "ptb_export" / "reading.py"
    assert (EXAMPLES / "reading.py").read_bytes() == ours.read_bytes()


def test_the_exported_lenet_classifies_its_test_split_from_picture_files(tmp_path, ptb):
    pytest.importorskip("onnxruntime")
    run, model = tmp_path / "run", tmp_path / "lenet.onnx"
    assert ptb("run", "--model", "lenet", "--device", "cpu", "--epochs", 2, "--output", run).returncode == 0
    assert ptb("export", run, "--format", "onnx", "-o", model).returncode == 0
    accuracy = json.loads(ptb("eval", run, "--split", "test", "--json").stdout)["metrics"]["test/accuracy"]
    bundle = digits()
    labels = []
    for number, (pixels, label) in enumerate(bundle.test):
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), np.asarray(pixels)[0])
        labels.append(str(int(label)))
    lines = example(script("onnx_pictures.py"), model, *sorted(tmp_path.glob("*.png")), cwd=tmp_path)
    right = [line.split("\t")[1] == label for line, label in zip(lines, labels, strict=True)]
    assert np.mean(right) == pytest.approx(accuracy, abs=1e-9)
    assert accuracy > 0.5


@pytest.fixture
def prices(tmp_path, ptb):
    rng = np.random.default_rng(0)
    with (tmp_path / "prices.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["size", "colour", "sold", "day", "price"])
        for row in range(60):
            day = f"2024-03-{row % 28 + 1:02}"
            writer.writerow([repr(rng.normal()), ("red", "blue")[row % 2], ("yes", "no")[row % 3 == 0], day, 2.5 * row])
    settings = ("dataset.path=prices.csv", "dataset.target=price", "trainer.epochs=1")
    done = ptb("run", "--model", "mlp", "--dataset", "csv", "--device", "cpu", "--output", "run", *settings)
    assert done.returncode == 0, done.stderr
    return tmp_path / "prices.csv"


def test_the_exported_table_model_predicts_a_csv_file(prices, tmp_path, ptb):
    pytest.importorskip("onnxruntime")
    assert ptb("export", "run", "--format", "onnx", "-o", "m.onnx").returncode == 0
    name, *lines = example(script("onnx_table.py"), "m.onnx", prices, cwd=tmp_path)
    wanted = [row["prediction"] for row in api.load(tmp_path / "run", device="cpu").predict(prices)]
    assert name == "price"
    assert [float(line) for line in lines] == pytest.approx(wanted, rel=1e-4)


def test_the_exported_program_predicts_in_pytorch_alone(prices, tmp_path, ptb):
    assert ptb("export", "run", "--format", "torch-export", "-o", "m.pt2").returncode == 0
    kind, line = example(script("torch_export.py"), "m.pt2", prices, cwd=tmp_path)
    wanted = [row["prediction"] for row in api.load(tmp_path / "run", device="cpu").predict(prices)]
    assert kind == "values"
    assert [value for (value,) in json.loads(line.split("\t")[1])] == pytest.approx(wanted, rel=1e-4)
