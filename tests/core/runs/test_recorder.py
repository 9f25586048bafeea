import json
import warnings

from ptb import RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.runs.overrides import resume_config
from ptb.runs.start import resume_run, start_run
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint
from ptb.storage.run_directory import RunDirectory

OBSERVERS = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_callbacks():
        names = {"counts": "Counts", "hoards": "Hoards", "late": "Late"}
        return [Component(name, f"ptb_watchers:{target}", role="observer") for name, target in names.items()]

    class Counts:
        def __init__(self): self.steps = 0
        def on_step_end(self, trainer, output): self.steps += 1

    class Hoards:
        def on_fit_start(self, trainer): pass
        def state_dict(self): return {"handle": object()}
        def load_state_dict(self, state): raise AssertionError("nothing was saved")

    class Late(Counts):
        def state_dict(self): return {"handle": object() if self.steps > 3 else None}
        def load_state_dict(self, state): pass
"""
SETTINGS = {"model": {"name": "net"}, "dataset": {"name": "line"}, "trainer": {"epochs": 2}, "device": "cpu"}


class Shown:
    """Progress that keeps the lines."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def run_of(registry, path, progress=None, **sections):
    return start_run(compose(resolve(RunConfig(**SETTINGS, **sections), registry)), path, progress)


def saved(path):
    return load_checkpoint([*find_checkpoints(path / "checkpoints").values()][-1])


def test_rows_are_recorded_and_shown_one_line_an_epoch(tiny, tmp_path):
    progress = Shown()
    run_of(tiny, tmp_path / "run", progress)
    assert (tmp_path / "run" / "log.txt").read_text().splitlines() == progress.lines
    epochs = [line for line in progress.lines if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert all("train loss" in line and "val loss" in line for line in epochs)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [(1, "train"), (1, "val"), (2, "train"), (2, "val")]


def test_a_checkpoint_says_of_which_run_it_is_and_how_far_that_is(tiny, tmp_path):
    run_of(tiny, tmp_path / "run")
    metadata = saved(tmp_path / "run").metadata
    assert metadata["run"] == json.loads((tmp_path / "run" / "manifest.json").read_text())["run"]
    assert (metadata["epoch"], metadata["labels"]) == (2, {"best": 1})


def test_a_terminal_that_is_gone_stops_nothing(tiny, tmp_path):
    class Gone:
        def line(self, text):
            raise BrokenPipeError

    assert run_of(tiny, tmp_path / "run", Gone()).status == "finished"


def test_state_of_an_observer_that_cannot_be_saved_is_reported_once_and_left_out(site, tmp_path):
    site.add("ptb-watchers", OBSERVERS)
    registry, path = site.registry(), tmp_path / "run"
    config = RunConfig(
        model={"name": "linear"},
        dataset={"name": "iris"},
        callbacks={"counts": {}, "hoards": {}, "late": {}},
        trainer={"epochs": 3},
    )
    told = "callback 'hoards' has state that no checkpoint can hold: handle is a builtins.object"
    with warnings.catch_warnings(record=True, action="always") as warned:
        start_run(compose(resolve(config, registry)), path, stop_after=5)
    first, second = (str(each.message) for each in warned)
    assert first.startswith(told)
    assert second.startswith("the state of callbacks.late is not saved: handle is a builtins.object")
    assert [f"warning: {first}", f"warning: {second}"] == [
        line for line in (path / "log.txt").read_text().splitlines() if line.startswith("warning: ")
    ]
    assert saved(path).decode()["callbacks"] == {"counts": {"steps": 5}}
    with warnings.catch_warnings(action="ignore"):
        result = resume_run(compose(resolve(resume_config(RunDirectory.open(path)), registry)), RunDirectory.open(path))
    assert result.status == "finished"
