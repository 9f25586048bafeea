import json
import os
import sys
from dataclasses import replace

import pytest

import ptb as api
from ptb.cli.observers import with_default_observers
from ptb_report.observer import ReportWriter

SHORT = ("--model", "mlp", "--epochs", "1", "dataset.size=8", "model.hidden=[8]")

# A process of these tests has imported all of ptb, and what draws.
FORGET = """
import sys
for name in [*sys.modules]:
    if name.startswith(("ptb", "pyecharts", "matplotlib", "seaborn")):
        del sys.modules[name]
"""


@pytest.fixture
def on(monkeypatch):
    monkeypatch.delenv("PTB_REPORT", raising=False)


def summary(run):
    return json.loads((run / "summary.json").read_text())


def test_a_run_ends_with_a_page_and_the_same_weights_and_config_as_without(on, ptb, tmp_path):
    done = ptb("run", *SHORT, "--output", "with")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == ["recorded in with", "report: with/report.html"]
    assert "Warning" not in done.stderr
    without = ptb("run", *SHORT, "--output", "without", "--no-report")
    assert without.stdout.splitlines()[-1] == "recorded in without"
    with_, without = tmp_path / "with", tmp_path / "without"
    extra = {path.name for path in with_.iterdir()} - {path.name for path in without.iterdir()}
    assert extra == {"report.html", "predictions-test.jsonl", "samples-test.jsonl"}
    assert summary(with_)["weights_sha256"] == summary(without)["weights_sha256"]
    assert (with_ / "config.toml").read_bytes() == (without / "config.toml").read_bytes()
    # `ptb report` makes the same page from the files alone, but for how long it took.
    page = (with_ / "report.html").read_bytes()
    assert ptb("report", "with").returncode == 0
    assert (with_ / "report.html").read_bytes() == page


def test_quiet_is_quiet_and_json_is_one_object(on, ptb):
    done = ptb("run", *SHORT, "--output", "out", "-q", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["status"] == "finished"


def test_the_environment_switches_it_off_and_the_flag_wins(ptb, tmp_path):
    assert os.environ["PTB_REPORT"] == "0"
    ptb("run", *SHORT, "--output", "off")
    ptb("run", *SHORT, "--output", "on", "--report")
    assert not (tmp_path / "off/report.html").exists()
    assert (tmp_path / "on/report.html").exists()


def test_from_python_it_writes_only_where_it_is_asked_for(on, tmp_path):
    config = {"model": {"name": "mlp", "hidden": [8]}, "dataset": {"name": "iris"}, "trainer": {"epochs": 1}}
    api.train(api.RunConfig(**config), output=tmp_path / "without")
    assert not (tmp_path / "without/report.html").exists()
    config["callbacks"] = {"report": {"language": "zh"}}
    api.train(api.RunConfig(**config), output=tmp_path / "with")
    assert '<html lang="zh-CN">' in (tmp_path / "with/report.html").read_text()


def test_a_run_that_names_it_has_it_once_and_resumes_with_and_without(on, ptb, tmp_path):
    done = ptb("run", *SHORT, "--callback", "report", "--epochs", "2", "--stop-after", "50", "--output", "out")
    assert done.returncode == 0
    assert not (tmp_path / "out/report.html").exists()
    assert ptb("resume", "out", "--no-report").returncode == 0  # it is in the configuration
    assert (tmp_path / "out/report.html").exists()


def test_a_run_without_it_resumes_with_a_page(on, ptb, tmp_path):
    ptb("run", *SHORT, "--epochs", "2", "--stop-after", "50", "--output", "out")
    assert ptb("resume", "out").returncode == 0
    assert (tmp_path / "out/report.html").exists()


def test_what_the_page_cannot_have_does_not_stop_the_run(on, run_python, tmp_path):
    source = f"{FORGET}sys.modules['pyecharts.charts'] = None\nfrom ptb.cli import main\nmain(prog_name='ptb')\n"
    done = run_python([sys.executable, "-c", source, "run", *SHORT, "--output", "out"], cwd=tmp_path)
    assert done.returncode == 0
    assert "callbacks.report failed in on_fit_end" in done.stderr
    assert done.stderr.count("callbacks.report failed") == 1
    assert summary(tmp_path / "out")["status"] == "finished"


def test_without_the_extra_one_line_says_how_to_get_it(built_in, monkeypatch, tmp_path):
    from ptb.config.resolve import resolve
    from ptb.runs.compose import compose

    config = api.RunConfig(model={"name": "mlp", "hidden": [8]}, dataset={"name": "iris"})
    partial = resolve(config, built_in)
    monkeypatch.setattr("ptb.registry.entry._is_met", lambda requirement: False)
    composed = with_default_observers(replace(compose(partial), advice="more threads"), built_in)
    assert composed.advice.count("\n") == 1
    assert composed.advice.startswith("more threads\nno report: it needs")  # and what was said before
    assert "no report: it needs pyecharts>=2, jinja2>=3.1: " in composed.advice
    assert "install 'pytorch-basics[report]' (or --no-report)" in composed.advice
    assert composed.trainer.callbacks.observers.components == {}


def test_nothing_of_it_is_imported_before_the_last_step(tmp_path, run_python):
    source = f"""{FORGET}
from dataclasses import replace
from pathlib import Path
import ptb
from ptb_report.observer import ReportWriter

class Watch(ReportWriter):
    def on_step_end(self, trainer, output):
        Watch.seen = {{"pyecharts", "matplotlib", "seaborn"}} & set(sys.modules)

import ptb_report.observer
ptb_report.observer.ReportWriter = Watch
config = ptb.RunConfig(
    model={{"name": "mlp", "hidden": [8]}},
    dataset={{"name": "iris"}},
    trainer={{"epochs": 1}},
    callbacks={{"report": {{}}}},
)
ptb.train(config, output="out")
print(sorted(Watch.seen), sorted({{"matplotlib", "seaborn"}} & set(sys.modules)))
print(Path("out/report.html").exists())
"""
    done = run_python([sys.executable, "-c", source], cwd=tmp_path)
    assert done.stdout.splitlines() == ["[] []", "True"], done.stderr


def test_a_training_that_is_not_recorded_has_no_page():
    class Trainer:
        run = None

    writer = ReportWriter()
    writer.on_fit_end(Trainer())
    assert writer.state_dict() == {}
