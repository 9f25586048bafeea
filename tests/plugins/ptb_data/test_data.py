import json

import numpy as np
import pytest

ODD = """
import torch
from torch.utils.data import TensorDataset
from ptb import Component, DataBundle, DataSpec, hookimpl

def odd(*, fails: bool = False):
    inputs = torch.stack([torch.arange(20.0), torch.ones(20)], 1)
    inputs[7, 0] = 100_000.0
    labels = torch.tensor([0] * 17 + [1] * 3)
    spec = DataSpec((2,), "vector", "class", 3, class_names=("calm", "windy", "storm"))
    train = TensorDataset(inputs, labels)
    test = TensorDataset(inputs[[2, 3]] + 0.0, torch.tensor([0, 2]))

    def write(folder):
        (folder / "train.txt").write_text("20")
        if fails:
            raise OSError(28, "No space left on device")
        (folder / "test.txt").write_text("2")
        return {split: folder / f"{split}.txt" for split in ("train", "test")}

    told = lambda: {"transforms": ["none at all"], "warnings": ["wind was measured by ear"]}
    return DataBundle(spec, train, test=test, notes=("made up",), describe=told, write_splits=write)

def plain():
    bundle = odd()
    return DataBundle(bundle.spec, bundle.train)

@hookimpl
def ptb_provide_datasets():
    return [Component("odd", "weather:odd"), Component("plain", "weather:plain")]
"""


@pytest.fixture
def weather(site, ptb):
    site.add("weather", ODD)

    def run(*arguments):
        return ptb("data", *arguments, site=site.path)

    return run


def shown(data, *arguments):
    done = data("show", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def data(ptb):
    return lambda *arguments: ptb("data", *arguments)


def test_the_classes_of_every_split_are_counted(data):
    facts = shown(data, "--dataset", "iris")
    assert facts["splits"] == {"train": 106, "val": 22, "test": 22}
    assert [row["name"] for row in facts["classes"]] == ["setosa", "versicolor", "virginica"]
    for split, size in facts["splits"].items():
        assert sum(row[split] for row in facts["classes"]) == size
    assert facts["inputs"] == [
        {"name": "inputs", "kind": "vector", "shape": [4], "dtype": "float32", "vocabulary": None}
    ]


def test_the_figures_are_those_of_numpy(data):
    from sklearn.datasets import load_digits

    facts = shown(
        data, "--dataset", "digits", "dataset.size=8", "dataset.val_fraction=0.01", "dataset.test_fraction=0.01"
    )
    (inputs,) = facts["training"]
    assert inputs["mean"] == pytest.approx(0, abs=1e-6)
    assert inputs["std"] == pytest.approx(1, abs=1e-4)
    pixels = load_digits().images
    whole = (pixels - pixels.mean()) / pixels.std()
    assert [inputs["min"], inputs["max"]] == pytest.approx([whole.min(), whole.max()], abs=0.02)


def test_real_targets_are_described_in_their_own_units(data):
    facts = shown(data, "--dataset", "diabetes", "dataset.standardize_target=false")
    (train,) = facts["targets"]["train"]
    assert 25 <= train["min"] < train["mean"] < train["max"] <= 346


def test_what_looks_wrong_is_said(weather):
    facts = shown(weather, "--dataset", "weather:odd")
    assert facts["warnings"] == [
        "wind was measured by ear",
        "2 samples are in train and in test (test 0 = train 2; test 1 = train 3): the figures of test are better than "
        "those of new data",
        "1 input occurs with different targets (train 3 and test 1): no model can be right on all of them",
        "train has no sample of class 'storm'",
        "test has no sample of class 'windy'",
        "1 of 3 classes has few training samples: 'windy' (3)",
        "column 1 is the same in all rows",
    ]
    assert facts["transforms"] == ["none at all"]
    assert facts["notes"] == ["made up"]


def test_a_value_far_away_is_found(site, ptb):
    site.add(
        "weather",
        ODD.replace("torch.arange(20.0)", "torch.arange(2000.0)")
        .replace("ones(20)", "ones(2000)")
        .replace("[0] * 17", "[0] * 1997")
        .replace("100_000.0", "1e9"),
    )
    facts = shown(lambda *rest: ptb("data", *rest, site=site.path), "--dataset", "odd")
    assert any("column 0 has values 20 standard deviations away" in line for line in facts["warnings"])


@pytest.mark.parametrize(
    ("argument", "what"),
    [("describe", "describe()"), ("transform", "the transform")],
)
@pytest.mark.parametrize("raised", ["KeyError('wind')", "SystemExit('wind')"])
def test_what_a_data_set_raises_is_told_with_its_name(site, ptb, argument, what, raised):
    source = ODD.replace("describe=told", f"{argument}=fail").replace(
        "def odd(", f"def fail(*_): raise {raised}\n\ndef odd("
    )
    site.add("weather", source)
    done = ptb("data", "show", "--dataset", "odd", site=site.path)
    assert done.returncode == 3
    named = f"error: {what} of dataset 'odd' (weather 1.0) failed: {raised.partition('(')[0]}: "
    assert done.stderr.startswith(named), done.stderr
    assert "wind" in done.stderr


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ("raise KeyError('disk')", "failed: KeyError: 'disk'"),
        ("return None", "failed: AttributeError: 'NoneType' object has no attribute 'items'"),
        ("return {}", "must give a path by split, it gives none"),
        ("return {'train': '/elsewhere'}", "failed: ValueError: '/elsewhere' is not in the subpath"),
    ],
)
def test_what_a_data_set_writes_elsewhere_or_not_at_all_is_told(site, ptb, tmp_path, made, text):
    site.add("weather", ODD.replace("def write(folder):", f"def write(folder):\n        {made}"))
    done = ptb("data", "split", "--dataset", "odd", "-o", "parts", site=site.path)
    assert done.returncode == 7
    assert done.stderr.startswith(f"error: write_splits() of dataset 'odd' (weather 1.0) {text}"), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"site"}


def test_a_page_is_read_by_people(weather):
    done = weather("show", "--dataset", "odd")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "data set weather:odd" in lines
    assert "splits train 20 test 2 no val" in lines
    assert "class train test" in lines
    assert "0 calm 17 1" in lines
    assert "column 1 is the same in all rows" in lines


@pytest.mark.parametrize("name", ["digits", "digit-pairs", "breast-cancer", "wine", "random"])
def test_every_data_set_has_a_page_without_control_characters(data, name):
    done = data("show", "--dataset", name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("data set   pytorch-basics:")
    assert "nothing was found" in done.stdout
    assert all(character.isprintable() or character == "\n" for character in done.stdout)
    assert not {"nan", "-0"} & set(done.stdout.split())


@pytest.mark.parametrize("target", ["multilabel", "real", "distribution", "similarity", "none"])
def test_other_targets_have_a_page_too(data, target):
    done = data(
        "show", "--dataset", "random", f"dataset.target={target}", "dataset.inputs=vector", "dataset.samples=64"
    )
    assert done.returncode == 0, done.stderr
    assert "target" in done.stdout


def test_a_page_of_positions_counts_them(data):
    facts = shown(
        data, "--dataset", "random", "dataset.positions=true", "dataset.samples=8", "dataset.input_shape=[1,8,8]"
    )
    assert facts["target"]["positions"] == [8, 8]
    assert sum(row["train"] for row in facts["classes"]) == pytest.approx(8 * 64, rel=0.3)


def test_a_wrong_setting_is_a_usage_error(data):
    done = data("show", "--dataset", "iris", "dataset.vla_fraction=0.1")
    assert done.returncode == 2
    assert "did you mean" in done.stderr


def test_the_splits_are_written_whole(weather, tmp_path):
    done = weather("split", "--dataset", "odd", "-o", "parts/here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "train: 20 samples in parts/here/train.txt",
        "test: 2 samples in parts/here/test.txt",
    ]
    assert (tmp_path / "parts/here/test.txt").read_text() == "2"


def test_a_folder_that_is_not_empty_is_left_alone(weather, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    done = weather("split", "--dataset", "odd", "-o", "full")
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_nothing_is_left_where_the_disk_is_full(weather, tmp_path):
    done = weather("split", "--dataset", "odd", "dataset.fails=true", "-o", "parts")
    assert done.returncode == 5, done.stderr
    assert "No space left" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"site"}


def test_a_data_set_that_cannot_write_its_splits_says_so(weather, tmp_path):
    done = weather("split", "--dataset", "plain", "-o", "parts")
    assert done.returncode == 2
    assert "cannot write its splits" in done.stderr
    assert not (tmp_path / "parts").exists()


def test_a_large_split_is_read_in_part(monkeypatch, built_in):
    from ptb.config.layers import RunConfig
    from ptb.config.resolve import resolve
    from ptb_data import overview

    monkeypatch.setattr(overview, "MOST_SAMPLES", 100)
    partial = resolve(RunConfig(model={"name": "linear"}, dataset={"name": "iris"}), built_in)
    facts = overview.overview(partial.dataset, 0)
    assert facts["read"] == {"train": 100, "val": 22, "test": 22}
    assert sum(row["train"] for row in facts["classes"]) == 100
    assert np.isfinite(facts["training"][0]["mean"])


WIDE = """\
a_column_with_a_very_long_name_indeed,date,flag,colour,amount,kind
"""


@pytest.mark.parametrize("columns", [None, "72", "200"], ids=["no-terminal", "narrow", "wide"])
def test_the_page_fits_the_terminal_and_loses_no_figure(ptb, tmp_path, monkeypatch, columns):
    random = np.random.RandomState(0)
    lines = [
        f"{random.normal():.4f},2024-01-{n % 28 + 1:02},{['yes', 'no'][n % 2]},{'colour of the number'[: n % 20 + 1]},"
        f"{random.randint(10**6, 10**7)}.25,{'abc'[n % 3]}\n"
        for n in range(100)
    ]
    (tmp_path / "t.csv").write_text(WIDE + "".join(lines))
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    given = ("--dataset", "csv", "dataset.path=t.csv", "dataset.target=kind")
    done = ptb("data", "show", *given)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= int(columns or 80)
    facts = json.loads(ptb("data", "show", *given, "--json").stdout)
    words = done.stdout.replace(",", "").replace("(", " ").split()
    for row in facts["columns"]:
        assert row["name"][:21] in done.stdout
        for key in ("mean", "std", "smallest", "largest"):
            assert key not in row or f"{row[key]:.4g}" in words or f"{row[key]:.0f}" in words
    assert "a_column_with_a_very_..." in words
