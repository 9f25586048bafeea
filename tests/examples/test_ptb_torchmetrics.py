import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from ptb import load_registry
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint
from ptb.training.state import load_weights

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[2] / "examples" / "ptb-torchmetrics"
REQUIREMENT = "torchmetrics>=1.6"


def run(*command, cwd, site, exit_code=0):
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy, because building leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("package") / PACKAGE.name
    return shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))


@pytest.fixture(scope="module")
def site(package, tmp_path_factory):
    """The folder that pip installed the plugin into."""
    folder = tmp_path_factory.mktemp("site")
    offline = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "install", *offline, "--target", folder, package, cwd=package, site="")
    return folder


def python_without(distribution, folder):
    """The interpreter of a virtual environment that has what this one has, less a distribution."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent, site="")
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(python, "-c", code, cwd=folder, site="").stdout.strip())
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name.partition("-")[0] != distribution:
            (own / path.name).symlink_to(path)
    return python


def predictions(output):
    """Scores and targets of the test split, by the weights that the run saved."""
    registry = load_registry()
    config = tomllib.loads((output / "config.toml").read_text())

    def build(kind, *runtime):
        return registry.build(kind, config[kind].pop("name"), *runtime, **config[kind])

    bundle = build("dataset")
    model = build("model", bundle.spec).eval()
    saved = find_checkpoints(output / "checkpoints")
    load_weights(model, load_checkpoint(saved[max(saved)]).decode()["model"])
    inputs, targets = bundle.test.tensors
    with torch.inference_mode():
        prepared = bundle.transform(inputs) if bundle.transform else inputs
        pairs = bundle.spec.target == "similarity"
        scores = model(prepared.flatten(0, 1)).unflatten(0, (-1, 2)) if pairs else model(prepared)
    return scores.double(), targets.numpy()


def of_classes(scores, targets):
    p, told = scores.softmax(1).numpy(), scores.argmax(1).numpy()
    return {
        "auroc": sk.roc_auc_score(targets, p, multi_class="ovr", average="weighted"),
        "average-precision": sk.average_precision_score(np.eye(10)[targets], p),
        "f1": sk.f1_score(targets, told, average="macro"),
        "f1-micro": sk.f1_score(targets, told, average="micro"),
        "cohen-kappa": sk.cohen_kappa_score(targets, told),
        "matthews-corrcoef": sk.matthews_corrcoef(targets, told),
    }


def of_binary(scores, targets):
    p, true = scores.sigmoid()[:, 0].numpy(), targets[:, 0].astype(int)
    told = (p > 0.5).astype(int)
    return {
        "auroc": sk.roc_auc_score(true, p),
        "average-precision": sk.average_precision_score(true, p),
        "f1": sk.f1_score(true, told),
        "precision": sk.precision_score(true, told),
        "recall": sk.recall_score(true, told),
        "specificity": sk.recall_score(true, told, pos_label=0),
        "jaccard": sk.jaccard_score(true, told),
        "calibration-error": abs(p.mean() - true.mean()),  # of a single bin
    }


def of_numbers(scores, targets):
    x, y = scores[:, 0].numpy(), targets[:, 0]
    return {
        "r2": sk.r2_score(y, x),
        "explained-variance": sk.explained_variance_score(y, x),
        "pearson": stats.pearsonr(x, y)[0],
        "spearman": stats.spearmanr(x, y)[0],
    }


def of_pairs(scores, targets):
    cosine = torch.cosine_similarity(scores[:, 0], scores[:, 1]).numpy()
    return {
        "auroc": sk.roc_auc_score(targets > 0, cosine),
        "average-precision": sk.average_precision_score(targets > 0, cosine),
    }


def of_distributions(scores, targets):
    return {"kl-divergence": stats.entropy(targets, scores.softmax(1).numpy(), axis=1).mean()}


RUNS = {
    "class": (
        "--model mlp --dataset digits --metric auroc --metric average-precision --metric f1 --metric cohen-kappa "
        "--metric matthews-corrcoef metrics.auroc.average=weighted metrics.f1-micro={name='f1',average='micro'}",
        of_classes,
    ),
    "binary": (
        "--model mlp --dataset breast-cancer --metric auroc --metric average-precision --metric f1 --metric precision "
        "--metric recall --metric specificity --metric jaccard --metric calibration-error "
        "metrics.calibration-error.bins=1",
        of_binary,
    ),
    "real": (
        "--model mlp --dataset diabetes --metric r2 --metric explained-variance --metric pearson --metric spearman",
        of_numbers,
    ),
    "similarity": ("--model mlp --dataset digit-pairs --metric auroc --metric average-precision", of_pairs),
    "distribution": (
        "--model mlp --dataset random dataset.target=distribution --metric kl-divergence",
        of_distributions,
    ),
}


@pytest.mark.parametrize(("arguments", "reference"), RUNS.values(), ids=RUNS)
def test_a_run_reports_the_figures_of_an_independent_computation(ptb, site, tmp_path, arguments, reference):
    done = ptb("run", *arguments.split(), "--epochs", 1, "--output", "out", "--json", site=site)
    assert done.returncode == 0, done.stderr
    told = {name: value for name, value in json.loads(done.stdout)["metrics"].items() if name.startswith("test/")}
    del told["test/loss"]
    figures = reference(*predictions(tmp_path / "out"))
    assert told == {f"test/{name}": pytest.approx(figure, rel=1e-5) for name, figure in figures.items()}


def test_a_setting_out_of_bounds_is_refused_before_anything_runs(ptb, site):
    done = ptb("run", "--model", "mlp", "--metric", "auroc", "metrics.auroc.thresholds=1", site=site)
    assert done.returncode == 2
    assert "metrics.auroc.thresholds" in done.stderr


def test_without_torchmetrics_the_plugin_says_what_it_needs(site, tmp_path):
    python = python_without("torchmetrics", tmp_path / "environment")
    listed = run(python, "-m", "ptb", "list", "metric", "--json", cwd=tmp_path, site=site)
    statuses = {c["name"]: c["status"] for c in json.loads(listed.stdout)["components"]}
    assert statuses["auroc"] == f"needs {REQUIREMENT}"
    assert statuses["accuracy"] == "ok"
    shown = run(python, "-m", "ptb", "show", "metric", "auroc", cwd=tmp_path, site=site)
    assert "metrics.auroc.thresholds" in shown.stdout
    chosen = ("run", "--model", "mlp", "--metric", "auroc", "--output", "out")
    refused = run(python, "-m", "ptb", *chosen, cwd=tmp_path, site=site, exit_code=7)
    assert f"pip install '{REQUIREMENT}'" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_tests_of_the_plugin_pass(site, package):
    shutil.rmtree(package / "ptb_torchmetrics")  # what is installed is tested
    run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "tests",
        cwd=package,
        site=site,
    )
