import csv
import json
import shutil
import sys

import numpy as np
import pytest
import torch

import ptb as api

TRAIN = ("run", "--model", "mlp", "--dataset", "csv", "dataset.path=a.csv", "--epochs", "8", "-q", "--output", "run")


def table(path, rows, seed, target="price"):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2))
    colour = random.choice(["red", "blue"], rows)
    price = 250_000 + 80_000 * x[:, 0] + 10_000 * (colour == "red")
    kind = np.where(x[:, 0] + x[:, 1] > 0, "good", "bad")
    lines = [f"{a:.4f},{b:.4f},{c},{p:.0f},{k}" for (a, b), c, p, k in zip(x, colour, price, kind, strict=True)]
    path.write_text("\n".join(["x,z,colour,price,kind", *lines]) + "\n")


@pytest.fixture
def prices(ptb, tmp_path):
    table(tmp_path / "a.csv", 120, 0)
    table(tmp_path / "b.csv", 40, 1)
    done = ptb(*TRAIN, "dataset.target=price", "dataset.exclude=kind")
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.fixture
def kinds(ptb, tmp_path):
    table(tmp_path / "a.csv", 120, 0)
    table(tmp_path / "b.csv", 40, 1)
    done = ptb(*TRAIN, "dataset.target=kind", "dataset.exclude=price", "--metric", "accuracy")
    assert done.returncode == 0, done.stderr
    return tmp_path


def rows_of(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return list(csv.DictReader(path.read_text().splitlines()))


def test_figures_of_other_data_are_those_of_its_predictions(ptb, prices):
    done = ptb("eval", "run", "b.csv", "--predictions", "p.csv", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    rows = rows_of(prices / "p.csv")
    assert [row["input"] for row in rows] == [f"b.csv:{line}" for line in range(2, 42)]
    truth, predicted = (np.array([float(row[name]) for row in rows]) for name in ("truth", "prediction"))
    source = [float(row["price"]) for row in rows_of(prices / "b.csv")]
    np.testing.assert_allclose(truth, source, rtol=1e-6)
    assert figures["split"] == "source"
    assert figures["metrics"]["source/mae"] == pytest.approx(np.abs(truth - predicted).mean(), rel=1e-5)
    assert figures["metrics"]["source/rmse"] == pytest.approx(np.sqrt(np.square(truth - predicted).mean()), rel=1e-5)
    assert figures["metrics"]["source/loss"] == pytest.approx(np.mean([float(row["loss"]) for row in rows]), rel=1e-5)


def test_nothing_is_written_into_the_run(ptb, prices):
    before = sorted(prices.joinpath("run").rglob("*"))
    assert ptb("eval", "run", "b.csv").returncode == 0
    assert sorted(prices.joinpath("run").rglob("*")) == before


def test_the_worst_come_first(ptb, kinds):
    assert ptb("eval", "run", "b.csv", "--predictions", "p.jsonl", "--sort", "loss").returncode == 0
    rows = rows_of(kinds / "p.jsonl")
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert {row["truth"] for row in rows} == {"good", "bad"}
    for row in rows:
        right = row["probability"] if row["truth"] == row["prediction"] else 1 - row["probability"]
        assert row["loss"] == pytest.approx(-np.log(max(right, 1e-30)), rel=1e-3, abs=1e-5)


def test_the_test_split_has_rows_too_and_they_are_those_of_predict(ptb, kinds):
    assert ptb("eval", "run", "--predictions", "p.jsonl").returncode == 0
    assert ptb("data", "split", "-c", "run/config.toml", "-o", "parts").returncode == 0
    done = ptb("predict", "run", "parts/test.csv", "-o", "q.jsonl")
    assert done.returncode == 0, done.stderr
    one, other = rows_of(kinds / "p.jsonl"), rows_of(kinds / "q.jsonl")
    assert [(row["prediction"], row["probability"]) for row in one] == [
        (row["prediction"], row["probability"]) for row in other
    ]
    assert [row["input"].rpartition(":")[0] for row in one] == ["a.csv"] * len(one)


def test_data_that_has_moved_is_found_where_it_is_said_to_be(ptb, prices):
    before = json.loads(ptb("eval", "run", "--json").stdout)
    (prices / "there").mkdir()
    shutil.move(prices / "a.csv", prices / "there/a.csv")
    shutil.move(prices / "run", prices / "there/run")
    assert ptb("eval", "there/run").returncode == 3
    done = ptb("eval", "there/run", "dataset.path=there/a.csv", "--json")
    assert json.loads(done.stdout)["metrics"] == before["metrics"]
    other = ptb("eval", "there/run", "dataset.path=b.csv")
    assert other.returncode == 3
    assert "the data is not that of the run" in other.stderr


def test_a_run_is_resumed_with_its_data_somewhere_else(ptb, tmp_path):
    table(tmp_path / "a.csv", 120, 0)
    assert ptb(*TRAIN, "dataset.target=price", "--stop-after", "9").returncode == 0
    (tmp_path / "there").mkdir()
    shutil.move(tmp_path / "a.csv", tmp_path / "there/a.csv")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert ptb("resume", "run").returncode == 3
    done = ptb("resume", "run", "dataset.path=there/a.csv")
    assert done.returncode == 0, done.stderr
    table(tmp_path / "b.csv", 120, 1)
    other = ptb("resume", "copy", "dataset.path=b.csv")
    assert other.returncode == 2
    assert "dataset.path" in other.stderr


@pytest.fixture(scope="module")
def priced(run_python, tmp_path_factory):
    """A run as ``prices`` makes one, which is only read."""
    folder = tmp_path_factory.mktemp("priced")
    table(folder / "a.csv", 120, 0)
    command = [sys.executable, "-m", "ptb", *TRAIN, "dataset.target=price", "dataset.exclude=kind"]
    done = run_python(command, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("b.csv", "--split", "val"), 2, "choose one"),
        (("nothing.csv",), 2, "no such file"),
        (("b.csv", "--sort", "loss"), 2, "--predictions"),
        (("b.csv", "--predictions", "p.txt"), 2, ".csv or a .jsonl"),
        (("no-target.csv",), 3, "target"),
        (("broken.csv",), 3, "broken.csv:3"),
        (("empty.csv",), 3, "empty.csv"),
        (("b.csv", "model.hidden=[3]"), 2, "cannot be set in an evaluation"),
    ],
)
def test_what_cannot_be_evaluated_is_said(ptb, priced, tmp_path, arguments, code, said):
    table(tmp_path / "b.csv", 40, 1)
    (tmp_path / "no-target.csv").write_text("x,z,colour\n1,2,red\n")
    (tmp_path / "broken.csv").write_text("x,z,colour,price\n1,2,red,5\n1,oops,red,5\n")
    (tmp_path / "empty.csv").write_text("x,z,colour,price\n")
    done = ptb("eval", priced, *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_python_evaluates_a_frame(prices, built_in):
    import pandas as pd

    frame = pd.read_csv(prices / "b.csv")
    told = api.evaluate(prices / "run", frame, samples=True, registry=built_in)
    assert len(told["samples"]) == 40
    assert told["metrics"]["source/mae"] == pytest.approx(
        np.mean([abs(row["truth"] - row["prediction"]) for row in told["samples"]]), rel=1e-4
    )


def test_pictures_of_another_folder_are_evaluated(ptb, tmp_path):
    import cv2

    random = np.random.default_rng(0)
    for folder, number in (("pictures", 30), ("others", 7)):
        for name, most in (("dark", 100), ("light", 255)):
            (tmp_path / folder / name).mkdir(parents=True)
            for place in range(number):
                pixels = random.integers(0, most, (12, 12, 3)).astype(np.uint8)
                cv2.imwrite(str(tmp_path / folder / name / f"{place}.png"), pixels)
    run = ("run", "--model", "mlp", "--dataset", "image-folder", "dataset.root=pictures", "dataset.size=12")
    assert ptb(*run, "--epochs", "8", "-q", "--output", "run").returncode == 0
    done = ptb("eval", "run", "others", "--predictions", "p.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "p.jsonl")
    assert rows[0]["input"] == "others/dark/0.png"
    right = np.mean([row["truth"] == row["prediction"] for row in rows])
    assert json.loads(done.stdout)["metrics"]["source/accuracy"] == pytest.approx(right)
    assert torch.tensor([row["loss"] for row in rows]).isfinite().all()


@pytest.mark.parametrize("flag", ["--dry-run", "--locked", "--resume=auto"])
def test_a_flag_that_a_continued_run_has_no_use_for_is_refused(ptb, prices, flag):
    done = ptb("run", "--continue", "run", "--epochs", "9", "--output", "more", flag)
    assert done.returncode == 2
    assert "--continue cannot be combined with" in done.stderr
    assert not (prices / "more").exists()


def test_new_values_and_wrong_targets_are_predicted_with_a_word(ptb, kinds):
    new = "x,z,colour,kind\n1.5,1,red,good\n-1.5,1,green,odd\n-1.5,1,green,bad\n1.5,1,grey,\n"
    (kinds / "new.csv").write_text(new)
    done = ptb("predict", "run", "new.csv")
    assert done.returncode == 0, done.stderr
    said = "warning: column 'colour': 3 rows have a value that training had not, 'green', 'grey'; to the model"
    assert [line.startswith(said) for line in done.stderr.splitlines()] == [True]
    assert [row["error"] for row in csv.DictReader(done.stdout.splitlines())] == [""] * 4
    rows = "\n".join(json.dumps(row) for row in csv.DictReader(new.splitlines()))
    lined = ptb("predict", "run", "-", input=rows)
    assert (lined.returncode, lined.stderr.splitlines()) == (0, done.stderr.splitlines())
    measured = ptb("eval", "run", "new.csv")
    assert measured.returncode == 3
    assert "new.csv:3: 'kind': 'odd' is not one of bad, good; `ptb predict` needs no targets" in measured.stderr


def test_a_run_from_another_says_which_columns_differ(ptb, prices):
    text = (prices / "b.csv").read_text().replace("x,z,colour", "x,width,colour")
    (prices / "c.csv").write_text(text)
    assert json.loads((prices / "run/manifest.json").read_text())["data"]["columns"] == ["x", "z", "colour"]
    given = ("run", "--from", "run", "--epochs", "1", "-q", "dataset.exclude=kind")
    same, other = (ptb(*given, f"dataset.path={name}.csv") for name in "bc")
    assert (same.returncode, other.returncode) == (0, 0), other.stderr
    said = "warning: other columns than those of run, new: width; gone: z: scaling and categories are learnt anew"
    assert said in other.stderr.splitlines()
    assert "other columns" not in same.stderr
