import json

import pytest
import torch
from click.testing import CliRunner

from ptb.cli import main
from ptb_bench import measure


@pytest.fixture
def small(monkeypatch):
    """The same work on few samples."""
    monkeypatch.setattr(measure, "SMALL_SAMPLES", 200)
    monkeypatch.setattr(measure, "LOADED", (500, 8))
    monkeypatch.setattr(measure, "EMPTY_EPOCHS", 2)


def told(*arguments):
    threads = torch.get_num_threads()
    done = CliRunner().invoke(main, ["bench", *arguments, "--rounds", "1", "--json"])
    assert torch.get_num_threads() == threads
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "others"),
    [
        (
            ("overhead", "--device", "cpu"),
            ["ptb, the steps", "batches cut before", "tensors and indices", "Dataset and DataLoader"],
        ),
        (("loader", "--device", "cpu"), ["ptb, loader.placement=host", "TensorDataset and DataLoader"]),
        (
            ("train", "--model", "linear", "--device", "cpu"),
            ["ptb, the steps", "batches cut", "tensors and", "Dataset and"],
        ),
    ],
    ids=["overhead", "loader", "train"],
)
@pytest.mark.usefixtures("small")
def test_ours_is_timed_beside_others_on_the_same_data(arguments, others):
    answer = told(*arguments)
    names = [each["name"] for each in answer["timings"]]
    assert names[0] == "ptb"
    assert all(name.startswith(other) for name, other in zip(names[1:], others, strict=True))
    assert all(len(each["seconds"]) == 1 and each["seconds"][0] > 0 for each in answer["timings"])
    assert len(answer["facts"]) == (2 if arguments[0] == "overhead" else 0)


@pytest.mark.slow
def test_the_start_is_timed_in_processes_of_its_own(monkeypatch):
    done = []  # what trains nothing is told in half a second, a hundred times as fast
    monkeypatch.setattr(measure, "_process", lambda *arguments: done.append(arguments) or 0.5)
    timings = told("startup")["timings"]
    assert [each["name"] for each in timings][:2] == [
        "import torch",
        "ptb run --model lenet, to the end of its first step",
    ]
    assert timings[0]["ratio"] == 1.0
    assert 0 < timings[1]["ratio"] < 240
    assert {("-c", "import torch"), ("-m", "ptb", "--help"), ("-m", "ptb", "list")} <= set(done)


def test_people_get_a_table(small):
    done = CliRunner().invoke(main, ["bench", "loader", "--device", "cpu", "--rounds", "1"])
    lines = done.output.splitlines()
    assert lines[0].startswith("500 samples of 8 bytes in batches of 256, nothing trained, cpu (")
    assert lines[1].split() == ["MEDIAN", "FASTEST", "SLOWEST", "PTB", "/", "IT"]
    assert lines[2].startswith("  ptb  ")


@pytest.mark.parametrize(
    "change",
    [
        ("optimizer.name=lbfgs",),
        ("trainer.accumulate=2",),
        ("trainer.clip_norm=1.0",),
        ("trainer.precision=bf16",),
        ("--callback", "ema"),
    ],
)
def test_what_the_other_loops_do_not_do_is_refused(change):
    done = CliRunner().invoke(main, ["bench", "train", "--model", "linear", *change])
    assert done.exit_code == 2
    assert "leave that out" in done.stderr


@pytest.mark.parametrize("arguments", [("train", "--modle", "mlp"), ("loader", "--rounds", "0")])
def test_a_wrong_option_is_a_usage_error(arguments):
    assert CliRunner().invoke(main, ["bench", *arguments]).exit_code == 2
