import subprocess
import sys

import pytest

from ptb import ConfigError, RunConfig
from ptb.runs.overrides import RESUME_KEYS, evaluation_config, resume_config
from ptb.storage.run_directory import RunDirectory

RUN = """
seed = 3
device = "cpu"
[model]
name = "mlp"
[metrics.accuracy]
[metrics.top-k]
k = 2
[loader]
batch_size = 8
drop_last = true
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.toml").write_text(RUN)
    return RunDirectory.open(tmp_path)


def test_an_evaluation_has_the_configuration_of_the_run_and_drops_no_samples(run):
    config = evaluation_config(run)
    assert config.values["loader"] == {"batch_size": 8, "drop_last": False}
    assert (config.values["seed"], config.values["device"]) == (3, "cpu")
    assert config.values["metrics"] == {"accuracy": {}, "top-k": {"k": 2}}


@pytest.mark.parametrize("section", ["initializer", "optimizer", "scheduler", "callbacks"])
def test_an_evaluation_leaves_out_what_only_trains(run, section):
    run.config.write_text(f"{RUN}[{section}]\nname = 'gone'\n")
    assert section in RunConfig.read([run.config]).values
    assert section not in evaluation_config(run).values


@pytest.mark.parametrize(
    ("metrics", "overrides", "expected"),
    [
        ((), ["metrics.top-k.k=3"], {"accuracy": {}, "top-k": {"k": 3}}),
        (("top-k",), [], {"top-k": {"k": 2}}),
        (("top-k",), ["metrics.top-k.k=3"], {"top-k": {"k": 3}}),
        (
            (),
            ["metrics.one={name='top-k', k=1}"],
            {"accuracy": {}, "top-k": {"k": 2}, "one": {"name": "top-k", "k": 1}},
        ),
    ],
    ids=["setting", "choice", "both", "label"],
)
def test_the_metrics_of_an_evaluation(run, metrics, overrides, expected):
    assert evaluation_config(run, metrics=metrics, overrides=overrides).values["metrics"] == expected


def test_where_and_how_fast_an_evaluation_computes(run):
    config = evaluation_config(run, "cuda", (), ["loader.batch_size=64", "loader.num_workers=2", "threads=1"])
    assert config.values["loader"] == {"batch_size": 64, "num_workers": 2, "drop_last": False}
    assert (config.values["device"], config.values["threads"]) == ("cuda", 1)
    assert evaluation_config(run, "cuda", (), ["device=mps"]).values["device"] == "mps"


@pytest.mark.parametrize(
    "key",
    ["seed", "model.hidden", "loader", "loader.shuffle", "devise", "loader.batch_size.x", "plugins.disable"],
)
def test_an_evaluation_sets_nothing_else(run, key):
    with pytest.raises(ConfigError) as refused:
        evaluation_config(run, overrides=["metrics.top-k.k=3", f"{key}={{}}", "trainer.patience=1"])
    first, second = refused.value.problems
    assert (first.key, first.source, second.key) == (key, f"{key}={{}}", "trainer.patience")
    assert (
        "in an evaluation; only metrics, dataset, loader.batch_size, device, threads, loader.placement, "
        in first.message
    )


def test_an_evaluation_is_of_one_run(run):
    with pytest.raises(ConfigError, match=r"'runs/two' is not KEY=VALUE.*one run"):
        evaluation_config(run, overrides=["runs/two"])


def test_a_run_that_goes_on_has_its_configuration_and_may_be_somewhere_else(run):
    assert resume_config(run).values == RunConfig.read([run.config]).values
    config = resume_config(run, ["threads=1", "loader.placement=workers", "trainer.keep_last=5"], "cuda")
    assert (config.values["device"], config.values["threads"]) == ("cuda", 1)
    assert config.values["loader"] == {"batch_size": 8, "drop_last": True, "placement": "workers"}
    assert config.values["trainer"] == {"keep_last": 5}


@pytest.mark.parametrize("key", ["seed", "loader.batch_size", "trainer", "model.name"])
def test_a_run_that_goes_on_computes_the_same(run, key):
    with pytest.raises(ConfigError, match=f"{key}: cannot be set when a run goes on; only dataset, {RESUME_KEYS[0]}"):
        resume_config(run, [f"{key}={{}}"])
    with pytest.raises(ConfigError, match=r"'runs/two' is not KEY=VALUE.*one run"):
        resume_config(run, ["runs/two"])


def test_it_imports_no_torch():
    code = "import sys, ptb.runs.overrides; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_observer_that_is_added_may_have_settings(run):
    config = resume_config(run, ["callbacks.post.port=4", "threads=1"], callbacks=["post"])
    assert config.values["callbacks"] == {"post": {"port": 4}}
    with pytest.raises(ConfigError, match=r"callbacks.other.port: cannot be set when a run goes on"):
        resume_config(run, ["callbacks.other.port=4"], callbacks=["post"])
