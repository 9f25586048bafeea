import json
import sys

import pytest
import torch

from ptb.storage.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint

SHORT = ("--model", "mlp", "--epochs", "1", "dataset.size=8", "model.hidden=[8]")
METRIC = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_metrics():
        return [Component("own", "ptb_own:Own")]

    class Own:
        def __init__(self, spec): pass
        def update(self, scores, targets): pass
        def compute(self): return 1.0
        def reset(self): pass
        def details(self):
            import torch
            return {"what": DETAILS}
    """


@pytest.fixture(scope="module")
def trained(run_python, tmp_path_factory):
    """A run that is only read."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_python([sys.executable, "-m", "ptb", "run", *SHORT, "--output", "out"], cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_a_loss_that_is_not_finite_ends_with_4(ptb, tmp_path):
    assert ptb("run", *SHORT, "--output", "out").returncode == 0
    folder = tmp_path / "out" / "checkpoints"
    state = load_checkpoint(find_checkpoints(folder)[40]).decode()
    state["model"] = {name: tensor * torch.inf for name, tensor in state["model"].items()}
    save_checkpoint(folder, 41, state, {})
    done = ptb("eval", "out", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["type"] == "NumericalError"
    assert done.stderr.startswith("error: the test loss is nan with the weights of step 41: ")
    assert ptb("eval", "out", "--checkpoint", "40").returncode == 0


def test_a_run_whose_optimizer_is_gone_is_evaluated(ptb, site):
    site.add(
        "ptb-own",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_optimizers():
            return [Component("own", "torch.optim:SGD")]
        """,
    )
    trained = ptb("run", *SHORT, "--optimizer", "own", "--output", "out", "--json", site=site.path)
    done = ptb("eval", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"].items() <= json.loads(trained.stdout)["metrics"].items()


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        ("[{'a': 1, 'b': 0.5}, {'a': 20, 'b': 1.0}]", ["  A   B", "  1   0.5000", "  20  1.0000"]),
        ("[{'a': 1}, {'b': 2, 'c': 3}]", ['  [{"a": 1}, {"b": 2, "c": 3}]']),
        ("[[1, 20], [3]]", ["   1  20", "   3"]),
        ("[[]]", ["  "]),
        ("[['a\\x07b']]", ["  a b"]),
        ("'\\x1b'", ['  "\\u001b"']),
        ("float('nan')", ["  NaN"]),
    ],
    ids=["table", "ragged-table", "matrix", "empty", "steering-cell", "steering-text", "nan"],
)
def test_details_of_any_form_are_shown(ptb, site, trained, details, shown):
    site.add("ptb-own", METRIC.replace("DETAILS", details))
    done = ptb("eval", trained, "--metric", "own", site=site.path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[lines.index("own, what:") + 1 : -1] == shown


def test_details_that_are_no_json_values_end_with_7(ptb, site, trained):
    site.add("ptb-own", METRIC.replace("DETAILS", "torch.ones(2)"))
    done = ptb("eval", trained, "--metric", "own", "--json", site=site.path)
    assert done.returncode == 7
    assert "error: metric 'own' (ptb-own 1.0): details() must give a dict of JSON values" in done.stderr


def test_the_confusion_matrix_has_the_names_of_the_classes_and_the_averages_say_of_what(ptb):
    assert ptb("run", "--model", "linear", "--dataset", "iris", "--epochs", "1", "--output", "out").returncode == 0
    done = ptb("eval", "out", "--metric", "class-report")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = lines.index("class-report, confusion:")
    names = [line.split()[0] for line in lines[lines.index("class-report, classes:") + 2 :][:3]]
    assert lines[start + 1].split() == names
    assert [line.split()[0] for line in lines[start + 2 : start + 5]] == names
    assert "3 of 3 classes, those that occur or are predicted" in done.stdout


def test_an_ignored_class_counts_in_no_average(ptb):
    command = ("--model", "linear", "--dataset", "iris", "--epochs", "1", "loss.ignore_index=1", "--output", "out")
    assert ptb("run", *command).returncode == 0
    report = json.loads(ptb("eval", "out", "--metric", "class-report", "--json").stdout)
    rows = report["details"]["class-report"]["classes"]
    predicted = [sum(column) for column in zip(*report["details"]["class-report"]["confusion"], strict=True)]
    assert rows[1]["support"] == 0
    counted = [row["f1"] for row, count in zip(rows, predicted, strict=True) if row["support"] or count]
    assert report["metrics"]["test/class-report"] == pytest.approx(sum(counted) / len(counted))
