import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import ptb as api

PLUGIN = """
import torch
from pathlib import Path
from torch import nn
from torch.utils.data import TensorDataset
from ptb import Component, DataBundle, DataSpec, Preprocessor, Sample, hookimpl

class Scale(Preprocessor):
    def __init__(self):
        self.mean = 0.0

    def read(self, sources):
        for number, source in enumerate(sources):
            if isinstance(source, Path):
                for place, line in enumerate(source.read_text().splitlines(), 1):
                    yield self.sample(f"{source}:{place}", {"x": line})
            elif isinstance(source, dict):
                yield self.sample(f"[{number}]", source)
            else:
                for place, value in enumerate(source):
                    yield self.sample(f"[{place}]", {"x": value})

    def sample(self, name, row):
        try:
            return Sample(name, torch.tensor([float(row["x"])]) - self.mean)
        except (KeyError, ValueError) as error:
            return Sample(name, error=f"no number: {error}")

def line(*, target: str = "class"):
    x = torch.linspace(-3, 3, 60)[:, None]
    names = ("low", "mid", "high")
    labels = (x[:, 0] > 0).long() + (x[:, 0] > 1).long()
    preprocessor = Scale()
    preprocessor.mean = 0.5
    more = {}
    if target == "class":
        targets, size = labels, 3
    elif target == "multilabel":
        targets, size = torch.cat([x < 1, x > -1, x > 5], 1).float(), 3
    else:
        targets, size, names = x * 2, 1, ()
        more = {"target_mean": (1000.0,), "target_std": (10.0,)}
    spec = DataSpec((1,), "vector", target, size, class_names=names, **more)
    split = TensorDataset(x - 0.5, targets)
    return DataBundle(spec, split, test=split, preprocessor=preprocessor)

@hookimpl
def ptb_provide_datasets():
    return [Component("line", "ptb_line:line")]
"""
TRAIN = ("run", "--model", "mlp", "--dataset", "line", "--lr", "0.05", "--epochs", "5", "-q")


class Site:
    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "ptb_line.py").write_text(PLUGIN)
        info = path / "ptb_line-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ptb-line\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[ptb]\nline = ptb_line\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_python):
    """Runs with each kind of target."""
    import os
    import sys

    folder = tmp_path_factory.mktemp("trained")
    site = folder / "site"
    site.mkdir()
    Site(site)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}
    for target in ("class", "multilabel", "real"):
        command = [sys.executable, "-m", "ptb", *TRAIN, f"dataset.target={target}", "--output", target]
        done = run_python(command, cwd=folder, env=environment)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def predict(trained, ptb):
    def run(target, *arguments, **more):
        return ptb("predict", trained / target, *arguments, site=trained / "site", **more)

    return run


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def numbers(tmp_path):
    (tmp_path / "a.txt").write_text("2.5\n-2\nxx\n0.5\n")
    return "a.txt"


def test_rows_come_in_input_order_and_a_broken_one_says_why(predict, numbers):
    done = predict("class", numbers)
    assert done.returncode == 3
    rows = rows_of(done.stdout)
    assert [row["input"] for row in rows] == [f"a.txt:{line}" for line in (1, 2, 3, 4)]
    assert [row["prediction"] for row in rows] == ["high", "low", "", "mid"]
    assert "no number" in rows[2]["error"]
    assert all(0.3 < float(row["probability"]) <= 1 for row in rows if not row["error"])
    assert "1 input of 4 could not be used" in done.stderr


def test_probabilities_of_all_classes_sum_to_one(predict, numbers):
    (first, *_) = rows_of(predict("class", numbers, "--scores").stdout)
    shares = [float(first[f"probability:{name}"]) for name in ("low", "mid", "high")]
    assert sum(shares) == pytest.approx(1, abs=1e-6)
    assert float(first["probability"]) == max(shares)


def test_the_most_probable_classes_are_named(predict, numbers):
    (first, *_) = rows_of(predict("class", numbers, "--top", "9").stdout)
    assert {first["prediction"], first["prediction:2"], first["prediction:3"]} == {"low", "mid", "high"}
    assert float(first["probability"]) >= float(first["probability:2"]) >= float(first["probability:3"])


def test_json_lines_have_no_empty_columns(predict, numbers, tmp_path):
    assert predict("class", numbers, "-o", "out.jsonl").returncode == 3
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [[*row] for row in rows] == [["input", "prediction", "probability"]] * 2 + [["input", "error"]] + [
        ["input", "prediction", "probability"]
    ]


def test_standard_input_takes_rows_lists_and_paths(predict, numbers):
    given = '{"x": 2.5}\n[-2]\n{"y": 1}\n{broken\n7\n"a.txt"\n'
    done = predict("class", "-", input=given)
    rows = rows_of(done.stdout)
    assert [row["prediction"] for row in rows[:2]] == ["high", "low"]
    assert [bool(row["error"]) for row in rows] == [False, False, True, True, True, False, False, True, False]
    assert "line 4" in rows[3]["input"]


def test_labels_above_the_threshold_are_joined(predict, tmp_path):
    (tmp_path / "a.txt").write_text("0\n")
    assert rows_of(predict("multilabel", "a.txt").stdout)[0]["prediction"] == "low|mid"
    assert rows_of(predict("multilabel", "a.txt", "--threshold", "0").stdout)[0]["prediction"] == "low|mid|high"
    assert predict("class", "a.txt", "--threshold", "0.1").returncode == 2


def test_real_values_are_in_their_own_units(predict, tmp_path, trained, site):
    (tmp_path / "a.txt").write_text("1\n")
    (row,) = rows_of(predict("real", "a.txt").stdout)
    site.add("ptb-line", PLUGIN)
    model = api.load(trained / "real", registry=site.registry())
    with torch.no_grad():
        score = float(model.model(torch.tensor([[0.5]])))
    assert abs(score) > 0.1
    assert float(row["prediction"]) == pytest.approx(1000 + 10 * score, rel=1e-6)


def test_a_batch_size_changes_nothing_that_can_be_seen(predict, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(str(value) for value in np.linspace(-3, 3, 101)))
    one, other = (rows_of(predict("class", "a.txt", "--batch-size", size).stdout) for size in ("1", "64"))
    assert [row["prediction"] for row in one] == [row["prediction"] for row in other]
    assert [row["input"] for row in one] == [f"a.txt:{line}" for line in range(1, 102)]


def test_predictions_are_those_of_eval(predict, trained, ptb, tmp_path):
    x = torch.linspace(-3, 3, 60)
    (tmp_path / "a.txt").write_text("\n".join(repr(float(value)) for value in x))
    rows = rows_of(predict("class", "a.txt").stdout)
    truth = ["low" if value <= 0 else "mid" if value <= 1 else "high" for value in x.tolist()]
    right = sum(row["prediction"] == name for row, name in zip(rows, truth, strict=True)) / len(rows)
    done = ptb("eval", trained / "class", "--json", site=trained / "site")
    assert json.loads(done.stdout)["metrics"]["test/accuracy"] == pytest.approx(right, abs=1e-7)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing.txt",), 2, "no such file"),
        (("*.nothing",), 2, "nothing fits"),
        (("a.txt", "-o", "out.txt"), 2, "a .csv or a .jsonl file"),
        (("a.txt", "--checkpoint", "7"), 2, "has no checkpoint '7'"),
        (("a.txt", "--strict"), 3, "a.txt:3: no number"),
        (("a.txt", "-p", "no:ptb-line"), 7, "needs the plugin 'ptb-line'"),
        (("empty.txt",), 3, "nothing to predict"),
    ],
)
def test_what_cannot_be_done_is_said(predict, numbers, tmp_path, arguments, code, said):
    (tmp_path / "empty.txt").touch()
    done = predict("class", *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["preprocessor.json", "preprocessor.safetensors"])
def test_a_damaged_preprocessor_is_refused(trained, ptb, numbers, tmp_path, name):
    import shutil

    shutil.copytree(trained / "class", tmp_path / "copy")
    path = tmp_path / "copy" / name
    path.write_bytes(path.read_bytes()[:-1])
    done = ptb("predict", "copy", numbers, site=trained / "site")
    assert done.returncode == 5
    assert "is damaged" in done.stderr


def test_only_the_plugin_of_the_run_is_imported(trained, ptb, numbers, tmp_path):
    import hashlib
    import shutil

    shutil.copytree(trained / "class", tmp_path / "copy")
    path, manifest = tmp_path / "copy/preprocessor.json", tmp_path / "copy/manifest.json"
    (tmp_path / "evil.py").write_text("open('was-here', 'w')\nclass Evil: pass\n")
    path.write_text(path.read_text().replace("ptb_line:Scale", "evil:Evil"))
    values = json.loads(manifest.read_text())
    values["preprocessor"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(values))
    done = ptb("predict", "copy", numbers, site=trained / "site")
    assert done.returncode == 7
    assert "is in no module of the plugin" in done.stderr
    assert not (tmp_path / "was-here").exists()


def test_a_model_is_loaded_in_three_lines(trained, site):
    site.add("ptb-line", PLUGIN)
    model = api.load(trained / "class", registry=site.registry())
    assert model.class_names == ("low", "mid", "high")
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    rows = model.predict([{"x": 2.5}, {"z": 1}, np.array([-2.0, 0.5])])
    assert [row.get("prediction") for row in rows] == ["high", None, "low", "mid"]
    assert rows[1]["error"].startswith("no number")


def test_threads_may_share_a_model(trained, site):
    from concurrent.futures import ThreadPoolExecutor

    site.add("ptb-line", PLUGIN)
    model = api.load(trained / "class", registry=site.registry())
    values = [{"x": float(value)} for value in np.linspace(-3, 3, 40)]
    alone = [model.predict([value]) for value in values]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda value: model.predict([value]), values)) == alone


def test_a_row_whose_scores_are_no_numbers_has_an_error(trained, site):
    site.add("ptb-line", PLUGIN)
    model = api.load(trained / "class", registry=site.registry())
    rows = model.predict([{"x": 1.0}, {"x": float("inf")}, {"x": 3e38}])
    assert [row.get("prediction") is not None for row in rows][:2] == [True, False]
    assert "not finite" in rows[1]["error"]
