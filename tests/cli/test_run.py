import json
import sys

import pytest

SHORT = ("--model", "mlp", "--epochs", "2", "dataset.size=8", "model.hidden=[8]")


def test_a_run_prints_its_result_and_tells_its_progress_on_the_other_stream(ptb, tmp_path):
    done = ptb("run", *SHORT, "--output", "out")
    assert done.returncode == 0
    progress = done.stderr.splitlines()
    assert progress[0].startswith("mlp on digits: 610 parameters, 1,257 train / 270 val / 270 test samples, ")
    assert progress[1] == "run directory: out"
    assert [line.split()[:2] for line in progress[2:]] == [["epoch", "1/2"], ["epoch", "2/2"], ["test", "loss"]]
    assert "val loss" in progress[2]
    assert "(weights of step 80, the last)" in progress[4]
    result = done.stdout.splitlines()
    assert result[0].startswith("finished: 2 epochs, 80 steps, ")
    assert [line.split()[0] for line in result[1:4]] == ["train", "val", "test"]
    assert result[4] == "recorded in out"
    assert "\x1b" not in done.stdout + done.stderr
    assert (tmp_path / "out" / "log.txt").read_text().splitlines() == progress


def test_json_is_exactly_one_object_and_quiet_is_quiet(ptb, tmp_path):
    done = ptb("run", *SHORT, "--output", "out", "--json", "-q")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert json.loads(done.stdout) == {**summary, "output": "out"}
    assert done.stderr == ""


def test_verbose_names_the_plugins_that_are_used(ptb):
    done = ptb("run", *SHORT, "-v", "--output", "out")
    assert "using model 'mlp' (pytorch-basics 0.1.0): ptb_models.mlp:MLP" in done.stderr


def test_a_run_is_repeated_from_its_config_and_evaluated_to_the_last_bit(ptb, tmp_path):
    first = json.loads(ptb("run", *SHORT, "--output", "one", "--json").stdout)
    again = json.loads(ptb("run", "-c", "one/config.toml", "--output", "two", "--json").stdout)
    assert first["weights_sha256"] == again["weights_sha256"]
    evaluated = json.loads(ptb("eval", "one", "--json").stdout)
    assert evaluated["metrics"] == {k: v for k, v in first["metrics"].items() if k.startswith("test/")}
    assert f"{first['metrics']['test/loss']:.6g}" in ptb("eval", "one").stdout


def test_a_dry_run_prints_a_config_that_can_be_run_and_writes_nothing(ptb, tmp_path):
    done = ptb("run", *SHORT, "--dry-run")
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run.toml").write_text(done.stdout)
    one = json.loads(ptb("run", "-c", "run.toml", "--json", "--output", "one").stdout)
    two = json.loads(ptb("run", *SHORT, "--json", "--output", "two").stdout)
    assert one["weights_sha256"] == two["weights_sha256"]
    resolved = json.loads(ptb("run", *SHORT, "--dry-run", "--json").stdout)["config"]
    assert (resolved["model"]["name"], resolved["model"]["hidden"], resolved["threads"]) == ("mlp", [8], 1)


COUNTING = """
import collections, sys
from pydantic import BaseModel

counts = collections.Counter()

def counted(name, function):
    def called(*arguments, **options):
        counts[name] += 1
        return function(*arguments, **options)
    return called

BaseModel.__init__ = counted("validation", BaseModel.__init__)
BaseModel.__init__.__pydantic_base_init__ = True  # else pydantic calls it where it validates JSON, too
for name in ("model_validate", "model_validate_json"):
    setattr(BaseModel, name, classmethod(counted("validation", getattr(BaseModel, name).__func__)))

import ptb.config.resolve as module
module.resolve = counted("resolve", module.resolve)
module.PartialConfig.with_target = counted("with_target", module.PartialConfig.with_target)
from ptb.cli import main
try:
    main()
finally:
    print(*(f"{name}={number}" for name, number in sorted(counts.items())), file=sys.stderr)
"""


def test_a_command_resolves_its_configuration_once(tmp_path, run_python):
    (tmp_path / "count.py").write_text(COUNTING)
    run = ("run", "--model", "lenet", "--epochs", "1", "--output", "out", "-q")
    for command in (
        (*run, "--stop-after", "1"),
        (*run, "--stop-after", "2", "--resume", "auto"),
        ("resume", "out", "--stop-after", "3"),
        ("eval", "out"),
    ):
        done = run_python([sys.executable, "count.py", *command], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        counts = dict(word.split("=") for word in done.stderr.splitlines()[-1].split())
        assert (counts["resolve"], counts["with_target"]) == ("1", "1")
        assert 5 <= int(counts["validation"]) <= 12


def test_check_says_what_would_be_trained_and_writes_nothing(ptb, tmp_path):
    done = ptb("check", *SHORT)
    assert done.returncode == 0
    assert done.stdout.startswith("ok: mlp on digits: 610 parameters")
    assert "2 epochs of 40 steps, 32 samples in a batch" in done.stdout
    assert json.loads(ptb("check", *SHORT, "--json").stdout)["components"]["loss"] == "pytorch-basics:cross-entropy"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("run", "--model", "lennet"), 2, "unknown model 'lennet' (did you mean 'lenet'?); available: cnn, "),
        (("run", "--model", "lenet", "model.pol=avg"), 2, "model.pol: unknown key (did you mean 'pool'?)"),
        (("run", "--model", "lenet", "--device", "cuda:9"), 2, "no device 'cuda:9' on this machine"),
        (("run", "--model", "lenet", "--output", "."), 2, "the output directory . is not empty"),
        (
            ("run", "--model", "lenet", "dataset.size=8"),
            3,
            "model 'lenet' does not fit the inputs of data set 'digits'",
        ),
        (
            ("run", "--model", "lenet", "--dataset", "fashion-mnist", "dataset.root=."),
            3,
            "train-images-idx3-ubyte is missing",
        ),
        (("run", "--model", "mlp", "--epochs", "1", "optimizer.lr=1e18"), 4, "the loss is nan at step 2"),
        (("eval", "nowhere"), 2, "nowhere is not a run directory"),
        (("show", "modell", "lenet"), 2, "unknown kind 'modell' (did you mean 'model'?)"),
        (("list", "models"), 2, "did you mean 'model'"),
        (("run", "--modle", "lenet"), 2, "--model"),
    ],
)
def test_a_mistake_is_one_message_and_an_exit_code(ptb, tmp_path, arguments, code, told):
    (tmp_path / "file").write_text("")
    done = ptb(*arguments)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_all_mistakes_are_told_at_once_each_with_its_source(ptb, tmp_path):
    (tmp_path / "run.toml").write_text('[model]\nname = "lenet"\npol = "avg"\n\n[trainer]\nepoch = 3\n')
    done = ptb("run", "-c", "run.toml", "--lr", "fast")
    assert done.returncode == 2
    assert "3 problems in the configuration" in done.stderr
    for told in ("[run.toml:3]", "[run.toml:6]", "[--lr fast]"):
        assert told in done.stderr


def test_an_error_is_one_json_object_too(ptb):
    done = ptb("run", "--model", "lenet", "--json", "model.pol=avg", "seed=-1")
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["exit_code"], done.returncode) == ("ConfigError", 2, 2)
    assert {problem["key"] for problem in error["problems"]} == {"model.pol", "seed"}


def test_a_traceback_comes_only_with_verbose(ptb):
    assert "Traceback" in ptb("run", "--model", "lennet", "-v").stderr


def test_nothing_is_left_behind_by_a_mistake(ptb, tmp_path):
    ptb("run", "--model", "lenet", "--output", "out", "dataset.size=8")
    ptb("run", "--model", "lenet", "dataset.size=8")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_plugin_is_one_warning_and_stops_nothing(ptb, site):
    site.add("ptb-broken", "import sys; sys.exit('boom')", version="2.1")
    done = ptb("list", "--json", site=site.path)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: plugin 'ptb-broken 2.1' failed to load: SystemExit: boom "
        "(disable: -p no:ptb-broken; remove: python -m pip uninstall ptb-broken)"
    ]
    assert len(json.loads(done.stdout)["components"]) >= 12


def test_a_fault_in_a_strangers_code_names_the_plugin_and_exits_7(ptb, site):
    site.add(
        "ptb-acme",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("tiny", "ptb_acme_torch:Tiny"), Component("shy", "ptb_acme:shy")]

        def shy(spec):
            raise KeyError("width")
        """,
    )
    done = ptb("run", "--model", "tiny", site=site.path)
    assert done.returncode == 7
    assert "model 'tiny' (ptb-acme 1.0): importing ptb_acme_torch:Tiny failed: ModuleNotFoundError" in done.stderr
    done = ptb("run", "--model", "shy", site=site.path)
    assert done.returncode == 7
    assert "model 'shy' (ptb-acme 1.0): building it failed: KeyError: 'width'" in done.stderr


def test_what_a_plugin_prints_stays_out_of_the_results(ptb, site):
    site.add(
        "ptb-chatty",
        """
        from ptb import Component, hookimpl
        print("hello from the plugin")

        @hookimpl
        def ptb_provide_models():
            return [Component("chatty", "ptb_chatty_model:Chatty")]
        """,
    )
    site.write(
        "ptb_chatty_model.py",
        """
        from torch import nn
        print("hello from the model")

        class Chatty(nn.Linear):
            def __init__(self, spec):
                super().__init__(spec.input_size, spec.output_size)

            def forward(self, inputs):
                print("hello from every step")
                return super().forward(inputs.flatten(1))
        """,
    )
    done = ptb("run", "--model", "chatty", "--epochs", 1, "--json", "--output", "out", site=site.path)
    assert json.loads(done.stdout)["status"] == "finished"
    assert "hello from every step" in done.stderr


def test_a_component_that_breaks_while_it_trains_is_named(ptb, site, tmp_path):
    site.add(
        "ptb-late",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("late", "ptb_late_model:Late")]
        """,
    )
    site.write(
        "ptb_late_model.py",
        """
        from torch import nn

        class Late(nn.Linear):
            def __init__(self, spec):
                super().__init__(spec.input_size, spec.output_size)
                self.calls = 0

            def forward(self, inputs):
                self.calls += 1
                if self.calls > 30:
                    raise KeyError("late")
                return super().forward(inputs.flatten(1))
        """,
    )
    done = ptb("run", "--model", "late", "--output", "out", site=site.path)
    assert done.returncode == 7
    assert "error: model 'late' (ptb-late 1.0) failed while training: KeyError: 'late'" in done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"
    tokens = ("--dataset", "random", "dataset.inputs=tokens", "model.sparse=true")
    done = ptb("run", "--model", "embedding-bag", *tokens, "--optimizer", "rmsprop")
    assert done.returncode == 3
    assert "optimizer 'rmsprop' cannot take a step on model 'embedding-bag': RuntimeError" in done.stderr


def test_a_wrong_option_is_one_json_object_too(ptb):
    done = ptb("run", "--json", "--bogus")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == "NoSuchOption"
    assert "--bogus" in done.stderr


def test_evaluating_warns_of_broken_plugins_too(ptb, site):
    site.add("ptb-broken", "import no_such_module")
    assert ptb("run", *SHORT, "--output", "out").returncode == 0
    done = ptb("eval", "out", site=site.path)
    assert done.returncode == 0
    assert "warning: plugin 'ptb-broken 1.0' failed to load" in done.stderr


def test_eval_takes_the_settings_of_metrics_as_run_does(ptb):
    assert ptb("run", *SHORT, "--output", "out").returncode == 0
    assert "  test/top-k 1\n" in ptb("eval", "out", "--metric", "top-k", "metrics.top-k.k=10").stdout
    done = ptb("eval", "out", "metrics.top-k.k=1", "--json")
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["test/top-k"] == metrics["test/accuracy"] < 1.0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("optimizer.lr=3", "optimizer.lr: cannot be set in an evaluation; only metrics, "),
        ("metrics.top-k.n=3", "metrics.top-k.n: unknown key"),
    ],
)
def test_a_wrong_key_of_eval_is_told_before_torch_is_imported(ptb, tmp_path, argument, told):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.toml").write_text('[model]\nname = "mlp"\n')
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = ptb("eval", "out", argument, site=tmp_path / "site", forked=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "torch was imported" in ptb("eval", "out", site=tmp_path / "site", forked=False).stderr


def test_eval_warns_in_one_line_of_data_that_has_changed(ptb, tmp_path):
    (tmp_path / "table.csv").write_text("a,y\n" + "".join(f"{n},{'xz'[n % 2]}\n" for n in range(40)))
    table = ("--dataset", "csv", "dataset.path=table.csv", "dataset.target=y")
    assert ptb("run", "--model", "linear", "--epochs", "1", *table, "--output", "out").returncode == 0
    (tmp_path / "table.csv").write_text("a,y\n" + "".join(f"{n},{'zx'[n % 2]}\n" for n in range(40)))
    done = ptb("eval", "out", "--json")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert done.stderr.startswith("warning: the data has changed since the run: data set 'csv' ")
    assert json.loads(done.stdout)["split"] == "test"


def test_a_deprecated_setting_is_one_warning_and_is_recorded_as_what_it_means(ptb, tmp_path):
    done = ptb("run", *SHORT, "loss.size_average=false", "-q", "--output", "out")
    assert done.returncode == 0
    assert [line.startswith("warning: size_average=False is deprecated") for line in done.stderr.splitlines()] == [True]
    assert 'reduction = "sum"' in (tmp_path / "out" / "config.toml").read_text()


def test_eval_shows_the_report_for_each_class(ptb):
    assert ptb("run", *SHORT, "--output", "out").returncode == 0
    done = ptb("eval", "out", "--metric", "class-report")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    start = lines.index("class-report, confusion:") + 1
    assert len({len(line) for line in lines[start : start + 10]}) == 1
    assert "PRECISION" in done.stdout
