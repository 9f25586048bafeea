"""The loop: what it computes, where it ends and stops, and whom it blames."""

import gc
import re
import sys
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import pluggy
import pytest
import torch
import torchmetrics
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR

from ptb import NumericalError, PtbError
from ptb.training.callbacks import EVENTS


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}
SCHEDULERS = {
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.9),
    "one-cycle": lambda o: OneCycleLR(o, 0.1, 9),
}


def by_hand(ours, epochs=3, clip_norm=None):
    """The loop of a PyTorch tutorial, on what is a trainer's; the mean training loss of each epoch."""
    model, optimizer, losses = ours.model, ours.optimizer, []
    for epoch in range(1, epochs + 1):
        model.train()
        losses.append(0.0)
        for inputs, targets, _ in ours.train_loader.epoch(epoch):
            optimizer.zero_grad()
            loss = ours.objective.loss(model(inputs), targets)
            loss.backward()
            if clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            ours.scheduler.step()
            losses[-1] += loss.item() * len(targets) / ours.train_loader.samples
    return losses


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "clip_norm"),
    [("sgd", "exponential", None), ("sgd", "one-cycle", 0.3), ("adam", "exponential", 0.3)],
)
def test_a_loop_by_hand_gives_the_same_weights(build, optimizer, scheduler, clip_norm):
    options = {"model": Net, "optimizer": OPTIMIZERS[optimizer], "scheduler": SCHEDULERS[scheduler]}
    twin = build(**options)
    losses = by_hand(twin, clip_norm=clip_norm)
    ours = build(**options, splits=(), epochs=3, clip_norm=clip_norm)
    ours.fit()
    for name, value in twin.model.state_dict().items():
        assert torch.equal(value, ours.model.state_dict()[name]), name
    assert [values["loss"] for *_, values, _ in ours.notes.rows] == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_a_closure_optimizer_runs_in_the_same_loop(build, line_search):
    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, 0.1, line_search_fn=line_search)

    ours, twin = build(optimizer=lbfgs, closure=True), build(optimizer=lbfgs)
    ours.fit()
    for epoch in (1, 2):
        for inputs, targets, _ in twin.train_loader.epoch(epoch):

            def closure(inputs=inputs, targets=targets):
                twin.optimizer.zero_grad()
                loss = twin.objective.loss(twin.model(inputs), targets)
                loss.backward()
                return loss

            twin.optimizer.step(closure)
            twin.scheduler.step()
    assert torch.equal(ours.model.weight, twin.model.weight)


def test_the_model_trains_in_train_mode_and_is_evaluated_in_eval_mode(build):
    modes = []

    class Spy(nn.Linear):
        def forward(self, inputs):
            modes.append((self.training, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
            return super().forward(inputs)

    build(lambda: Spy(3, 2)).fit()
    assert modes == ([(True, False, True)] * 3 + [(False, True, False)] * 3) * 2


def test_a_row_comes_once_for_each_step_and_split_with_the_learning_rate_of_its_step(build):
    ours = build(epochs=3, eval_every=2)
    state = ours.fit()
    rows = [row[:3] for row in ours.notes.rows]
    assert rows == [(3, 1, "train"), (6, 2, "train"), (6, 2, "val"), (9, 3, "train"), (9, 3, "val")]
    assert [row[4] for row in ours.notes.rows] == pytest.approx([0.1 * 0.9**n for n in (2, 5, 5, 8, 8)])
    assert (state.step, state.epoch, state.samples, state.rows_logged) == (9, 3, 30, 5)
    assert set(state.metrics) == {"train/loss", "val/loss"}


@pytest.mark.parametrize(
    ("every", "steps"), [(0, [0, 3, 6]), (2, [0, 2, 3, 4, 6]), (1, [0, 1, 2, 3, 4, 5, 6]), (100, [0, 3, 6])]
)
def test_checkpoints_come_at_the_start_when_due_when_best_and_at_the_end(build, every, steps):
    ours = build(checkpoint_every=every)
    ours.fit()
    assert sorted(ours.notes.saved) == steps
    assert ours.state.labels == {"best": 6}
    worse = build(checkpoint_every=100, better="higher", epochs=3)  # so that the first evaluation stays the best
    worse.fit()
    assert (sorted(worse.notes.saved), worse.state.labels) == ([0, 3, 9], {"best": 3})


def test_a_scheduler_is_stepped_once_an_optimizer_step(build):
    ours = build(batch_size=2, accumulate=2, epochs=1)
    ours.fit()
    assert ours.state.step == 3
    assert ours.scheduler.last_epoch == 3


# ---- ends and stops


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("eval_steps", [0, 5])
def test_max_steps_ends_a_run_like_its_last_epoch(build, steps, eval_steps):
    ended = []

    class Ends:
        def on_fit_end(self, trainer):
            ended.append(trainer.state.step)

    ours = build(actors={"ends": Ends()}, epochs=9, max_steps=steps, eval_every=9, eval_steps=eval_steps)
    state = ours.fit()
    assert (state.step, state.epoch, state.epoch_step) == (steps, -(-steps // 3), 0)
    assert ended == [steps]
    assert ours.finished
    rows = [(step, split) for step, _, split, *_ in ours.notes.rows]
    assert len(rows) == len(set(rows))
    assert {(steps, "train"), (steps, "val")} <= set(rows)
    assert max(ours.notes.saved) == steps
    assert state.evals_since_best <= len([split for _, split in rows if split == "val"])


def test_max_steps_gives_the_weights_of_a_run_that_was_stopped_there(build):
    ours = build(Net, max_steps=4, epochs=3)
    ours.fit()
    twin = build(Net, epochs=3)
    twin.fit(stop_after=4)
    assert torch.equal(ours.model[0].weight, twin.model[0].weight)
    assert not twin.finished


def test_max_time_ends_a_run_like_its_last_epoch(build, monkeypatch):
    now = iter(range(10**6))
    monkeypatch.setattr("ptb.training.trainer.perf_counter", lambda: float(next(now)))
    ours = build(epochs=100, max_time=10, eval_every=100, eval_steps=1)
    state = ours.fit()
    assert 0 < state.step < 30
    assert state.seconds >= 10
    assert ours.finished
    rows = [(step, split) for step, _, split, *_ in ours.notes.rows]
    assert len(rows) == len(set(rows))
    assert rows[-1] == (state.step, "val")


def test_a_raised_limit_lets_a_finished_run_go_on(build, resumed):
    short = build(Net, max_steps=4)
    short.fit()
    later = resumed(build(Net, max_steps=6, epochs=3), short.notes.saved[4])
    assert not later.is_over
    assert later.fit().step == 6
    assert later.state.epoch == 3  # the second one was over early


def test_stop_after_saves_and_does_not_end(build):
    ours = build()
    state = ours.fit(stop_after=4)
    assert (state.step, state.epoch, state.epoch_step) == (4, 1, 1)
    assert max(ours.notes.saved) == 4
    assert not ours.finished
    assert not ours.is_over


@pytest.mark.parametrize("step", [1, 3, 5, 6])
def test_a_stop_that_is_asked_for_in_a_step_comes_after_it_saved(build, step):
    class Signal:
        def on_step_end(self, trainer, output):
            trainer.state.should_stop = trainer.state.step == step

    ours = build(recorders=[Signal()])
    assert ours.fit().step == max(ours.notes.saved) == step
    assert not ours.finished


@pytest.mark.parametrize("where", ["waiting", "evaluation", "epoch end"])
def test_a_stop_is_heard_wherever_something_takes_long(build, where):
    class Slow(nn.Linear):
        def forward(self, inputs):
            if not self.training and where == "evaluation":
                ours.state.should_stop = True
            return super().forward(inputs)

    def transform(inputs):
        if ours.state.step == 1 and where == "waiting":
            ours.state.should_stop = True
            ours.train_loader.source.waiting()
        return inputs

    class EpochEnd:
        def on_epoch_end(self, trainer):
            trainer.state.should_stop = where == "epoch end"

    ours = build(lambda: Slow(3, 2), transform=transform, recorders=[EpochEnd()])
    state = ours.fit()
    assert state.step == max(ours.notes.saved) == {"waiting": 1}.get(where, 3)
    assert (state.epoch, state.rows_logged) == {"waiting": (0, 0), "evaluation": (1, 0), "epoch end": (1, 2)}[where]
    assert not ours.finished


def test_an_actor_that_stops_a_run_at_its_end_has_nothing_to_stop(build):
    class Stops:
        def on_evaluation(self, trainer, split, metrics):
            trainer.state.should_stop = trainer.state.epoch == trainer.settings.epochs

    class Tests:
        def on_fit_end(self, trainer):
            trainer.evaluate("test")

    ours = build(splits=("val", "test"), actors={"stops": Stops()}, recorders=[Tests()])
    ours.fit()
    assert ours.finished


def test_a_stop_in_the_last_event_leaves_a_run_unfinished_but_saved(build, resumed):
    class Tests:
        def on_fit_end(self, trainer):
            trainer.state.stop_signal = 2 * stops
            trainer.evaluate("test")

    stops = True
    ours = build(splits=("val", "test"), recorders=[Tests()])
    ours.fit()
    assert ours.is_over
    assert not ours.finished
    stops = False
    later = resumed(build(splits=("val", "test"), recorders=[Tests()]), ours.notes.saved[6])
    later.fit()
    assert later.finished
    assert later.notes.rows == []


# ---- who is to blame


def fails(*_, **__):
    raise RuntimeError("it fails")


def failing(thing, *methods):
    for method in methods:
        setattr(thing, method, fails)
    return thing


class Plain:
    """Any object."""


def listening(**methods):
    listener = Plain()
    vars(listener).update(methods)
    return listener


class Metric:
    def update(self, scores, targets): ...

    def compute(self):
        return "a text"

    def reset(self): ...


class Backward(nn.Module):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(_, values):
            return values.clone()

        backward = staticmethod(fails)

    def forward(self, inputs):
        return self.Function.apply(inputs)


class OwnZeroGrad(torch.optim.SGD):
    zero_grad = fails


class AfterClosure(torch.optim.SGD):
    def step(self, closure):
        closure()
        fails()


CALLED = [event for event in EVENTS if event != "on_exception"]
BLAMED = {  # what an adapter returns is often an object of another package
    "a model of torch": ("model", {"model": lambda: nn.Linear(7, 2)}),
    "backward": ("model", {"model": lambda: nn.Sequential(nn.Linear(3, 2), Backward())}),
    "a loss of torch": ("loss", {"loss": nn.BCEWithLogitsLoss()}),
    "a denominator": ("loss", {"loss": failing(nn.CrossEntropyLoss(), "denominator"), "accumulate": 2}),
    "an optimizer of torch": ("optimizer", {"optimizer": torch.optim.SparseAdam}),
    "zero_grad": ("optimizer", {"optimizer": OwnZeroGrad}),
    "a closure optimizer": ("optimizer", {"optimizer": AfterClosure, "closure": True}),
    "a scheduler of torch": ("scheduler", {"scheduler": lambda optimizer: OneCycleLR(optimizer, 0.1, 2)}),
    "on_evaluation": ("scheduler", {"scheduler": lambda o: failing(ExponentialLR(o, 0.9), "on_evaluation")}),
    "a metric of torchmetrics": ("metrics.score", {"metrics": lambda: {"score": torchmetrics.MeanSquaredError()}}),
    "update": ("metrics.score", {"metrics": lambda: {"score": failing(Metric(), "update")}}),
    "compute": ("metrics.score", {"metrics": lambda: {"score": failing(Metric(), "compute")}}),
    "what compute gives": ("metrics.score", {"metrics": lambda: {"score": Metric()}}),
    "transform": ("dataset", {"transform": fails}),
    "augment": ("dataset", {"augment": fails}),
    "around_step": ("callbacks.one", {"actors": {"one": failing(Plain(), "around_step")}}),
    "evaluation_weights": ("callbacks.one", {"actors": {"one": failing(Plain(), "evaluation_weights")}}),
    "state_dict": ("callbacks.one", {"actors": {"one": failing(Plain(), "state_dict", "load_state_dict")}}),
    **{event: ("callbacks.one", {"actors": {"one": failing(Plain(), event)}}) for event in CALLED},
}


@pytest.mark.parametrize("what", BLAMED)
def test_the_component_that_was_called_is_blamed(build, what):
    section, options = BLAMED[what]
    ours = build(**options)
    with pytest.raises(Exception) as failed:  # noqa: PT011  # each raises something else
        ours.fit()
    assert not isinstance(failed.value, PtbError)
    assert ours.calls.now == section


def test_a_callback_that_hears_of_an_error_is_not_blamed_for_it(build):
    heard = []
    ours = build(loss=fails, actors={"hears": listening(on_exception=lambda trainer, error: heard.append(error))})
    with pytest.raises(RuntimeError, match="it fails"):
        ours.fit()
    assert heard
    assert ours.calls.now == "loss"


class Around:
    def __init__(self, *fails_at):
        self.fails_at = fails_at

    def around_step(self, trainer, step):
        step()
        if "step" in self.fails_at:
            fails()

    @contextmanager
    def evaluation_weights(self, trainer):
        yield
        if "evaluation" in self.fails_at:
            fails()


@pytest.mark.parametrize("fails_at", ["step", "evaluation"])
def test_an_actor_is_blamed_for_what_it_does_after_it_called_the_trainer(build, fails_at):
    actors = {"outer": Around(), "guilty": Around(fails_at), "inner": Around()}
    ours = build(actors=actors)
    with pytest.raises(RuntimeError, match="it fails"):
        ours.fit()
    assert ours.calls.now == "callbacks.guilty"


@pytest.mark.parametrize("error", [NumericalError("x"), KeyboardInterrupt()])
def test_own_errors_and_interrupts_pass_as_they_are(build, error):
    class Raises(nn.Linear):
        def forward(self, inputs):
            raise error

    told = []
    listener = listening(on_exception=lambda trainer, error: told.append(error))
    with pytest.raises(type(error)) as raised:
        build(lambda: Raises(3, 2), actors={"bad": failing(Plain(), "on_exception")}, recorders=[listener]).fit()
    assert raised.value is error
    assert told == [error]


def test_exit_in_a_component_is_a_failure_of_it(build):
    ours = build(loss=lambda *_: sys.exit(3))
    with pytest.raises(SystemExit):
        ours.fit()
    assert ours.calls.now == "loss"


@pytest.mark.parametrize("event", ["on_step_end", "on_row", "on_epoch_end", "on_checkpoint"])
def test_no_component_is_blamed_for_an_error_of_the_core(build, event):
    ours = build(recorders=[failing(Plain(), event)], actors={"one": Around()})
    with pytest.raises(RuntimeError, match="it fails"):
        ours.fit()
    assert ours.calls.now == ""


def test_an_actor_that_takes_no_step_is_told_so(build):
    idle = listening(around_step=lambda trainer, step: None)
    ours = build(actors={"outer": Around(), "idle": idle})
    with pytest.raises(RuntimeError, match=re.escape("did not call step()")):
        ours.fit()
    assert ours.calls.now == "callbacks.idle"


# ---- what a step costs


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_step_reads_one_value_back_from_the_device(build, monkeypatch, clip_norm):
    """Each read would make a GPU wait; they are counted over an epoch of one step and one of forty."""
    reads = []

    def noting(read):
        return lambda *arguments, **options: (reads.append(read), read(*arguments, **options))[1]

    def reads_of(batch_size):
        reads.clear()
        ours = build(size=40, batch_size=batch_size, splits=(), epochs=1, clip_norm=clip_norm)
        ours.callbacks.attach([], None)
        with monkeypatch.context() as patch:
            for name in ("item", "__float__", "__int__", "__bool__", "tolist", "cpu", "numpy"):
                patch.setattr(torch.Tensor, name, noting(getattr(torch.Tensor, name)))
            ours.fit()
        return len(reads)

    assert reads_of(1) - reads_of(100) == 39


def test_no_step_calls_a_hook(build, monkeypatch):
    ours = build(size=40)
    with monkeypatch.context() as patch:  # pytest itself calls hooks
        patch.setattr(pluggy.HookCaller, "__call__", fails)
        ours.fit()


def test_steps_leave_nothing_behind(build, monkeypatch):
    """Counts what is made after a freeze: to look through all that other tests have left takes seconds."""
    monkeypatch.setattr("ptb.training.blame.gc", SimpleNamespace(freeze=lambda: None, unfreeze=lambda: None))

    def objects(epochs):
        ours = build(size=24, batch_size=1, epochs=epochs, splits=())
        ours.callbacks.attach([], None)
        gc.collect()
        gc.freeze()
        ours.fit()
        gc.collect()
        return len(gc.get_objects())

    try:
        objects(1)
        assert objects(4) - objects(2) < 24  # 48 more steps
    finally:
        gc.unfreeze()


def test_the_collector_skips_what_is_there_before_and_finds_the_cycles_of_steps(build):
    alive, most, frozen = weakref.WeakSet(), [], gc.get_freeze_count()  # which itself takes 10 ms

    class Cyclic(nn.Linear):
        def forward(self, inputs):
            thing = Plain()
            thing.itself = [thing]
            alive.add(thing)
            return super().forward(inputs)

    class Watches:
        def on_step_end(self, trainer, output):
            most.append(len(alive))
            if trainer.state.step == 1:
                assert gc.get_freeze_count() > frozen + 10_000

    build(lambda: Cyclic(3, 2), size=1100, batch_size=1, epochs=1, splits=(), recorders=[Watches()]).fit()
    assert max(most) < 1000
    assert gc.get_freeze_count() == 0


def test_the_time_of_training_leaves_callbacks_evaluation_and_saving_out(build, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("ptb.training.trainer.perf_counter", lambda: clock[0])

    class Slow(nn.Linear):
        def forward(self, inputs):
            clock[0] += 1
            return super().forward(inputs)

    class Takes:
        def on_step_end(self, trainer, output):
            clock[0] += 100

        on_checkpoint = on_step_end

    ours = build(lambda: Slow(3, 2), actors={"takes": Takes()}, eval_steps=2, checkpoint_every=1)
    speeds = []
    ours.callbacks.attach([listening(on_row=lambda trainer, row: speeds.append(row.samples_per_second))], None)
    assert ours.fit().seconds == 6
    assert [speed for speed in speeds if speed] == [10 / 3] * 2
