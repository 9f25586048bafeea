"""What a checkpoint would lose is told with the component that would lose it, and nothing else is."""

import pytest

from ptb import RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose

METRICS = """
    from ptb import Component, hookimpl

    class Sum:
        def __init__(self):
            self.value = 0.0

    class Keeper:
        def __init__(self, spec):
            self.reset()

        def reset(self):
            self.value = 0.0

        def update(self, scores, targets):
            self.value = self.value + float(len(targets))

        def compute(self):
            return self.value

    class Loser(Keeper):
        def reset(self):
            self.sum = Sum()

        def update(self, scores, targets):
            self.sum.value += float(len(targets))

        def compute(self):
            return self.sum.value

    @hookimpl
    def ptb_provide_metrics():
        return [Component("keeper", "ptb_sums:Keeper"), Component("loser", "ptb_sums:Loser")]
"""


def lost_by(registry, **sections):
    sections = {"model": {"name": "linear"}, "device": "cpu", "trainer": {"epochs": 2}} | sections
    return compose(resolve(RunConfig(**sections), registry)).lost_state


@pytest.mark.parametrize("kind", ["optimizer", "scheduler"])
def test_no_built_in_component_loses_anything(built_in, kind):
    for entry in built_in.components(kind):
        changes = {kind: {"name": entry.name}}
        if "sparse-gradients" in entry.component.needs:
            changes["model"] = {"name": "embedding-bag", "sparse": True}
            changes["dataset"] = {"name": "random", "inputs": "tokens"}
        assert lost_by(built_in, **changes) == {}, entry.name


def test_no_built_in_metric_loses_anything(built_in):
    for target in ("class", "real"):
        entries = [entry for entry in built_in.components("metric") if target in entry.component.accepts]
        metrics = {entry.name: {"k": 2} if entry.name == "top-k" else {} for entry in entries}
        assert metrics
        assert lost_by(built_in, dataset={"name": "random", "target": target}, metrics=metrics) == {}


def test_a_metric_that_keeps_its_sums_elsewhere_is_named(site):
    site.add("ptb-sums", METRICS)
    assert lost_by(site.registry(), metrics={"keeper": {}, "loser": {}}) == {
        "metrics.loser": "metric 'loser' keeps state that is in no state_dict: sum.value"
    }
