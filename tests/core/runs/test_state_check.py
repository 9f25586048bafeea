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


WAVES = """
    from ptb import Component, hookimpl

    class Waves:
        def __init__(self):
            self.scales = iter([1.0, 0.5, 0.25] * 1000)

        def set(self, trainer, lr):
            trainer.optimizer.param_groups[0]["lr"] = lr

        def scale(self, trainer):
            before = trainer.optimizer.param_groups[0]["lr"]
            self.set(trainer, before * next(self.scales))
            return before

        def on_nothing(self): ...

    @hookimpl
    def ptb_provide_callbacks():
        return [Component("waves", "ptb_waves:Waves", role="actor")]
"""


@pytest.mark.parametrize(
    ("method", "blamed"),
    [
        ("def on_step_end(self, trainer, output): self.scale(trainer)", "optimizer"),
        (
            "def around_step(self, trainer, step): before = self.scale(trainer); step(); self.set(trainer, before)",
            "scheduler",
        ),
    ],
)
def test_what_saves_all_it_has_is_not_blamed_alone_for_what_a_callback_loses(site, method, blamed):
    site.add("ptb-waves", WAVES.replace("def on_nothing(self): ...", method))
    told = lost_by(site.registry(), callbacks={"waves": {}})
    assert "it or a callback keeps state that is in no state_dict" in told[blamed]
