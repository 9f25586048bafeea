import json

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
def test_details_of_any_form_are_shown(ptb, site, details, shown):
    site.add("ptb-own", METRIC.replace("DETAILS", details))
    assert ptb("run", *SHORT, "--output", "out").returncode == 0
    done = ptb("eval", "out", "--metric", "own", site=site.path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[lines.index("own, what:") + 1 : -1] == shown


def test_details_that_are_no_json_values_end_with_7(ptb, site):
    site.add("ptb-own", METRIC.replace("DETAILS", "torch.ones(2)"))
    assert ptb("run", *SHORT, "--output", "out").returncode == 0
    done = ptb("eval", "out", "--metric", "own", "--json", site=site.path)
    assert done.returncode == 7
    assert "error: metric 'own' (ptb-own 1.0): details() must give a dict of JSON values" in done.stderr
