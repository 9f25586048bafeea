import os
import re

import pytest
from pydantic import ValidationError

from ptb import ConfigError
from ptb.config.sections import Grouping, LoaderSettings, ParameterGroup, RunSettings, TrainerSettings
from ptb.registry.settings import validate


def told(model, **values):
    with pytest.raises(ConfigError) as error:
        validate(model, values)
    return {problem.key: problem.message for problem in error.value.problems}


@pytest.mark.parametrize(("model", "key"), [(RunSettings, "threads"), (LoaderSettings, "num_workers")])
@pytest.mark.parametrize(
    ("cores", "most", "machine"),
    [(1, 64, "1 core"), (16, 64, "16 cores"), (32, 128, "32 cores"), (None, 64, "1 core")],
)
def test_as_many_threads_and_workers_as_a_machine_bears(monkeypatch, model, key, cores, most, machine):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert getattr(validate(model, {key: most}), key) == most
    assert told(model, **{key: most + 1}) == {key: f"must be at most {most} on a machine of {machine}, got {most + 1}"}
    assert told(model, **{key: -1}) == {key: "must be at least 0, got -1"}


def test_what_is_valid_is_the_same_on_every_machine_in_the_schema(monkeypatch):
    here = RunSettings.model_json_schema(), LoaderSettings.model_json_schema()
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    assert (RunSettings.model_json_schema(), LoaderSettings.model_json_schema()) == here


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_no_number_of_the_core_is_infinite(value):
    assert told(TrainerSettings, clip_norm=value) == {"clip_norm": f"must be a finite number, got {value}"}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0.0, -1.0])
def test_no_wait_for_a_batch_is_endless_or_none(value):
    assert re.fullmatch(
        f"must be (above 0|a finite number), got {value}", told(LoaderSettings, timeout=value)["timeout"]
    )


def test_workers_are_not_asked_for_where_none_read():
    told_of = told(LoaderSettings, num_workers=1, placement="host")
    assert told_of["num_workers"].startswith("belongs to placement=workers, and placement is host;")


@pytest.mark.parametrize("key", ["prefetch_factor", "multiprocessing_context"])
def test_settings_of_the_data_loader_are_checked(key):
    assert set(told(LoaderSettings, **{key: 0})) == {key}


@pytest.mark.parametrize(
    "more",
    [{"num_workers": 0}, {"placement": "host", "pin_memory": False}, {"num_workers": 2, "prefetch_factor": 4}, {}],
    ids=str,
)
def test_a_resolved_configuration_is_valid_again(more):
    resolved = validate(LoaderSettings, more).model_dump()
    assert validate(LoaderSettings, {k: v for k, v in resolved.items() if v is not None}).model_dump() == resolved


@pytest.mark.parametrize("monitor", ["val/loss", "train/accuracy", "val/report/macro avg"])
def test_a_monitor_is_a_figure_of_a_split(monitor):
    assert validate(TrainerSettings, {"monitor": monitor}).monitor == monitor


@pytest.mark.parametrize("monitor", ["", "loss", "val/", "val/a/b/c", "source/loss"])
def test_what_is_no_monitor_is_refused(monitor):
    message = told(TrainerSettings, monitor=monitor)["monitor"]
    assert message.startswith("must be SPLIT/LABEL or SPLIT/LABEL/FIGURE, such as val/loss or val/accuracy")


@pytest.mark.parametrize("monitor", ["test/loss", "test"])
def test_a_run_is_never_chosen_by_its_test_split(monitor):
    assert told(TrainerSettings, monitor=monitor)["monitor"].startswith("must be a figure of the val or train split")


@pytest.mark.parametrize("key", ["max_steps", "max_time", "patience"])
def test_an_end_of_training_is_no_negative_number(key):
    assert getattr(TrainerSettings(), key) == 0
    assert set(told(TrainerSettings, **{key: -1})) == {key}


def test_a_group_chooses_parameters():
    assert (
        told(ParameterGroup, name="adam")
        == {"": "needs match, a pattern of parameter names, or ndim, their number of dimensions"} | {}
    )
    assert told(ParameterGroup, ndim=-1) == {"ndim": "must be at least 0, got -1"}
    assert validate(ParameterGroup, {"ndim": 2}).match is None


@pytest.mark.parametrize(
    ("model", "key"),
    [(RunSettings, "seed"), (LoaderSettings, "shuffle"), (TrainerSettings, "epochs"), (Grouping, "groups")],
)
def test_sections_do_not_change(model, key):
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model(), key, 1)
