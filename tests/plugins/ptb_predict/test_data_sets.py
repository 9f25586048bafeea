"""Predicting the test files of each data set that reads files is evaluating: the same scores, to the last bit."""

import csv
import io
import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import ptb as api
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from sample_files import write_idx

ROWS = 90
random = np.random.RandomState(0)
FRAME = pd.DataFrame(
    {
        "size": random.normal(50, 9, ROWS).round(4),
        "rooms": random.randint(1, 6, ROWS),
        "town": random.choice(["Bern", "Genève", "Chur, upper"], ROWS),
        "new": random.choice(["yes", "no"], ROWS),
        "built": [f"20{n % 20:02}-0{1 + n % 9}-1{n % 9}" for n in range(ROWS)],
        "price": random.normal(250_000, 50_000, ROWS).round(2),
        "rent": random.normal(900, 300, ROWS).round(2),
        "kind": random.choice(["flat", "house", "barn"], ROWS),
        "words": random.choice(["a fine house", "House, by a lake", "no garden", "a barn"], ROWS),
        "sold": random.choice(["true", "false"], ROWS),
        "let": random.choice(["true", "false"], ROWS),
        "a": (share := random.rand(ROWS).round(3)),
        "b": (1 - share).round(3),
    }
)
FEATURES = ["size", "rooms", "town", "new", "built"]


def table(folder, **settings):
    FRAME.to_csv(folder / "houses.csv", index=False)
    features = {} if "text" in settings else {"features": FEATURES}
    return {"name": "csv", "path": str(folder / "houses.csv"), **features, **settings}


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(number).randint(0, 256, (30 + number % 7, 40, 3)).astype(np.uint8)
    cv2.imwrite(str(path), pixels)


def folder_of_classes(folder, **settings):
    for number in range(60):
        picture(folder / "pictures" / ("10", "2", "cat")[number % 3] / f"{number}.png", number)
        picture(folder / "pictures" / "cat" / "inner" / f"{number}.jpg", 100 + number)
    return {"name": "image-folder", "root": str(folder / "pictures"), "recursive": True, "size": 16, **settings}


def table_of_labels(folder):
    lines = ["file,label"]
    for number in range(60):
        picture(folder / "pictures" / f"{number}.png", number)
        lines.append(f"{number}.png,{('cat', 'a dog')[number % 2]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    places = {"root": str(folder / "pictures"), "labels": str(folder / "labels.csv")}
    return {"name": "image-folder", "size": 16, "normalize": "data", **places}


def masks(folder):
    for number in range(40):
        picture(folder / "pictures" / f"{number}.jpg", number)
        (folder / "masks").mkdir(exist_ok=True)
        mask = np.random.RandomState(number).randint(0, 3, (30 + number % 7, 40)).astype(np.uint8)
        cv2.imwrite(str(folder / "masks" / f"{number}_m.png"), mask)
    places = {"images": str(folder / "pictures"), "masks": str(folder / "masks"), "mask_suffix": "_m"}
    return {"name": "image-masks", "size": 16, **places}


def arrays(folder, inputs, targets, **settings):
    np.save(folder / "x.npy", inputs)
    np.save(folder / "y.npy", targets)
    return {"name": "arrays", "inputs": str(folder / "x.npy"), "targets": str(folder / "y.npy"), **settings}


def holes(values):
    values[7, 2] = values[40, 0] = np.nan
    return values


def idx(folder):
    pictures, labels = random.randint(0, 256, (90, 9, 8)), random.randint(0, 3, 90)
    names = {"images": pictures[:60], "labels": labels[:60], "test_images": pictures[60:], "test_labels": labels[60:]}
    return {"name": "idx", **{name: write_idx(folder, f"{name}-idx", values) for name, values in names.items()}}


CLASSES = random.randint(0, 3, ROWS)
DATA = {
    "csv-class": lambda folder: table(folder, target="kind"),
    "csv-binary": lambda folder: table(folder, target="sold"),
    "csv-positive": lambda folder: table(folder, target="sold", positive="false"),
    "csv-multilabel": lambda folder: table(folder, target=["sold", "let"], kind="multilabel"),
    "csv-real": lambda folder: table(folder, target="price"),
    "csv-real-2": lambda folder: table(folder, target=["price", "rent"]),
    "csv-distribution": lambda folder: table(folder, target=["a", "b"], kind="distribution"),
    "csv-text": lambda folder: table(folder, target="kind", text="words"),
    "csv-dates": lambda folder: table(folder, target="kind", dates="parts"),
    "image-folder": folder_of_classes,
    "image-folder-crop": lambda folder: folder_of_classes(folder, fit="crop", normalize="imagenet"),
    "image-folder-labels": table_of_labels,
    "image-masks": masks,
    "arrays-class": lambda folder: arrays(folder, random.normal(0, 5, (ROWS, 4)), CLASSES, standardize=True),
    "arrays-real": lambda folder: arrays(
        folder,
        holes(random.normal(0, 5, (ROWS, 4)).astype("f4")),
        random.normal(7, 5, (ROWS, 2)),
        missing="mean",
        standardize_target=True,
    ),
    "arrays-pictures": lambda folder: arrays(folder, random.randint(0, 256, (ROWS, 9, 8)).astype("u1"), CLASSES + 5),
    "idx": idx,
    "digits": lambda folder: {"name": "digits", "size": 8},
    "digits-distribution": lambda folder: {"name": "digits", "size": 8, "target": "distribution"},
}
MODELS = {"image-masks": {"name": "unet", "depth": 2, "width": 4}, "csv-text": {"name": "embedding-bag"}}


class Trained:
    """A run of one epoch, the files of its test split, and what evaluating it computes."""

    def __init__(self, folder, name, built_in):
        (folder / "data").mkdir()
        dataset = DATA[name](folder / "data")
        values = {"model": MODELS.get(name, {"name": "mlp"}), "dataset": dataset, "trainer": {"epochs": 1}}
        self.folder, self.registry = folder, built_in
        config = api.RunConfig(**values, device="cpu", loader={"batch_size": 7})
        self.run = api.train(config, registry=built_in, output=folder / "run").output
        composed = compose(resolve(config, built_in), trains=False, initializes=False)
        self.bundle = composed.bundle
        objective = api.load(self.run, device="cpu", registry=built_in)._objective
        batches = list(composed.trainer.eval_loaders["test"].epoch())
        with torch.inference_mode():
            self.scores = torch.cat([objective.predictions(objective.forward(batch.inputs)) for batch in batches])
        self.truth = self.bundle.preprocessor.decode_targets(torch.cat([batch.targets for batch in batches]))
        self.metrics = api.evaluate(self.run, registry=built_in)["metrics"]
        self.files = self.test_files()
        self.own = self.predicted()
        composed.close()

    def test_files(self):
        if self.bundle.write_splits is not None:
            (self.folder / "splits").mkdir()
            return self.bundle.write_splits(self.folder / "splits")["test"]
        if self.bundle.spec.class_names == ("0", "1", "2"):
            return shutil.copy(self.folder / "data/test_images-idx", self.folder / "test-idx3")
        np.save(self.folder / "test.npy", self.bundle.test.tensors[0].numpy())
        return self.folder / "test.npy"

    def predicted(self, run=None):
        """Names, scores and rows."""
        batches = list(api.load(run or self.run, device="cpu", registry=self.registry).batches(self.files))
        return (
            [name for batch in batches for name in batch.names],
            torch.cat([batch.scores for batch in batches]),
            [row for batch in batches for row in batch.rows()],
        )


@pytest.fixture(scope="module", params=DATA)
def trained(request, tmp_path_factory, built_in):
    return Trained(tmp_path_factory.mktemp(request.param), request.param, built_in)


def test_scores_are_those_of_evaluating(trained):
    names, scores, rows = trained.own
    assert [row.get("error") for row in rows] == [None] * len(trained.scores)
    if trained.files.is_dir():  # they are read in the order of their names
        written = [name.rpartition("/")[2] for name in names]
        samples = [file_name(name) for name in trained.bundle.names("test")]
        assert sorted(written) == sorted(samples)
        # Other samples are computed together here, on which the last bits depend.
        torch.testing.assert_close(scores[[written.index(name) for name in samples]], trained.scores)
        return
    assert torch.equal(scores, trained.scores)


def file_name(sample):
    *folders, name = sample.split("/")
    return f"inner-{name}" if "inner" in folders else name


def test_figures_are_those_of_evaluating(trained):
    spec = trained.bundle.spec
    _, scores, rows = trained.own
    if spec.target in ("class", "binary") and not spec.positions:
        assert len(rows) == len(trained.truth)
        got = sorted(row["prediction"] for row in rows)
        names = [*trained.bundle.preprocessor.decode(trained.scores)["prediction"]]
        assert got == sorted(names)
        right = sum(map(str.__eq__, names, trained.truth)) / len(names)
        assert trained.metrics["test/accuracy"] == pytest.approx(right, abs=1e-7)
    elif spec.target == "real":
        columns = [name for name in rows[0] if name != "input"]
        got = np.array([[row[name] for name in columns] for row in rows])
        assert np.abs(got - trained.truth.numpy().reshape(got.shape)).mean() == pytest.approx(
            trained.metrics["test/mae"], rel=1e-5
        )
    else:
        assert len(scores) == len(trained.truth)


def test_neither_the_data_nor_its_place_is_needed(trained):
    names, scores, rows = trained.own
    shutil.rmtree(trained.folder / "data")
    moved = shutil.copytree(trained.run, trained.folder / "elsewhere" / "copy")
    other_names, other_scores, other_rows = trained.predicted(moved)
    assert other_names == names
    assert torch.equal(other_scores, scores)
    assert str(other_rows) == str(rows)


@pytest.mark.parametrize("name", ["csv-class", "image-folder"])
def test_the_commands_agree(name, ptb, tmp_path):
    (tmp_path / "data").mkdir()
    settings = {f"dataset.{key}": value for key, value in DATA[name](tmp_path / "data").items()}
    given = ["--dataset", settings.pop("dataset.name"), *(f"{key}={json.dumps(v)}" for key, v in settings.items())]
    assert ptb("run", "--model", "mlp", *given, "--epochs", "1", "--output", "run", "-q").returncode == 0
    done = ptb("data", "split", *given, "-o", "splits", "--json")
    assert done.returncode == 0, done.stderr
    test = json.loads(done.stdout)["splits"]["test"]
    done = ptb("predict", "run", test["path"])
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    if name == "csv-class":
        truth = pd.read_csv(tmp_path / test["path"])["kind"].tolist()
    else:
        truth = [row["input"].split("/")[-2] for row in rows]
    assert len(rows) == test["samples"] == len(truth)
    right = sum(row["prediction"] == name for row, name in zip(rows, truth, strict=True)) / len(rows)
    figures = json.loads(ptb("eval", "run", "--json").stdout)["metrics"]
    assert figures["test/accuracy"] == pytest.approx(right, abs=1e-7)
