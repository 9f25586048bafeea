"""Whatever an observer does, the training is the same to the last bit."""

import random
import sys
import time
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ptb.training.blame import StopRequested
from ptb.training.callbacks import listeners
from ptb.training.observers import view_of


class Net(nn.Module):
    """Draws from every global generator, with a normal number that waits in the generator of NumPy and Python."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, inputs):
        noise = random.random() + random.gauss(0, 1) + np.random.rand() + np.random.randn()
        return self.layers(inputs) * (1 + 0.01 * noise)


def run(build, **options):
    return build(
        Net, optimizer=lambda parameters: torch.optim.Adam(parameters, 0.01), eval_steps=2, epochs=2, **options
    )


def spoil(thing):
    """Write into all tensors, numbers and dicts of what an observer got."""
    if isinstance(thing, torch.Tensor):
        thing.data.fill_(7)
    elif isinstance(thing, dict):
        for value in list(thing.values()):
            spoil(value)
        thing["loss"] = 7
    elif isinstance(thing, nn.Module):
        thing.requires_grad_(False)
        spoil({name: each.grad for name, each in thing.named_parameters() if each.grad is not None})
        spoil(dict(thing.state_dict(keep_vars=True)))
    elif isinstance(thing, torch.optim.Optimizer):
        for group in thing.param_groups:
            group["lr"] = 7
            spoil(dict(enumerate(group["params"])))
        spoil(dict(thing.state))
        thing.step()
    elif hasattr(thing, "__dict__"):
        for name, value in list(vars(thing).items()):
            spoil(value)
            if isinstance(value, int | float):
                setattr(thing, name, 7)


class Sees:
    """Does something at every event."""

    def __init__(self, does):
        self.does = does

    def on_fit_start(self, trainer):
        self.does(trainer)

    on_epoch_start = on_epoch_end = on_fit_end = on_fit_start

    def on_step_end(self, trainer, output):
        self.does(trainer, output)

    def on_evaluation(self, trainer, split, metrics):
        self.does(trainer, metrics)

    def on_checkpoint(self, trainer, path):
        self.does(trainer)


def seeds(*_):
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def draws(*_):
    torch.rand(3), np.random.rand(3), random.random()


def draws_one_normal(*_):
    np.random.randn()
    random.gauss(0, 1)


def writes(trainer, *arguments):
    for thing in (trainer.model, trainer.optimizer, trainer.scheduler, trainer.state, *arguments):
        spoil(thing)
        spoil(getattr(thing, "loss", None))


def raises(*_):
    raise ValueError("it")


def exits(*_):
    sys.exit(3)


def stops(trainer, *_):
    trainer.state.should_stop = True
    trainer.should_stop = True
    raise StopRequested


def takes_a_batch(trainer, *_):
    next(trainer.train_loader.epoch(1))


def steps(trainer, *_):
    trainer.optimizer.step()
    trainer.scheduler.step()
    trainer.model(torch.randn(4, 3)).sum().backward()


def keeps_and_writes_later():
    kept = []

    def does(trainer, *arguments):
        for thing in kept:
            spoil(thing)
        kept.extend([trainer, trainer.model, trainer.optimizer, trainer.state, *arguments])
        kept.extend(each.loss for each in arguments if hasattr(each, "loss"))

    return does


def replaces(trainer, *arguments):
    for thing in (trainer, *arguments):
        for name in ("model", "loss", "settings", "device", "lr", "stepped", "samples"):
            with suppress(AttributeError):
                setattr(thing, name, None)


DISTURBANCES = {
    "raises": raises,
    "exits": exits,
    "stops": stops,
    "sleeps": lambda *_: time.sleep(0.001),
    "seeds": seeds,
    "draws": draws,
    "draws one normal": draws_one_normal,
    "another generator of NumPy": lambda *_: np.random.set_bit_generator(np.random.MT19937(1)),
    "switches gradients off": lambda *_: torch.set_grad_enabled(False),
    "writes": writes,
    "replaces": replaces,
    "takes a batch": takes_a_batch,
    "steps": steps,
    "keeps": keeps_and_writes_later(),
    "asks for checkpoints": lambda trainer, *_: trainer.request_checkpoint("mine"),
}


@pytest.fixture(scope="module")
def wanted(build, state_of):
    trainer = run(build)
    trainer.fit()
    return state_of(trainer), trainer.notes.rows


@pytest.mark.filterwarnings("ignore:callbacks.bad failed")
@pytest.mark.parametrize("name", DISTURBANCES)
def test_no_bit_changes(build, state_of, wanted, name):
    trainer = run(build, observers={"bad": Sees(DISTURBANCES[name])})
    trainer.fit()
    assert trainer.notes.rows == wanted[1]
    state = state_of(trainer)
    labels = {"best": 6, "mine": 6} if name == "asks for checkpoints" else {"best": 6}
    assert state.pop("train_state.labels") == labels
    for place in state:
        assert state[place] == wanted[0].get(place) or place.startswith("callbacks"), place
    assert torch.is_grad_enabled()


def test_that_test_can_fail(build, state_of, wanted):
    for does in (seeds, draws, draws_one_normal, lambda trainer, *_: spoil(trainer.model.layers[0].weight)):
        trainer = run(build, actors={"bad": Sees(does)})
        trainer.fit()
        assert state_of(trainer)["model.layers.3.weight"] != wanted[0]["model.layers.3.weight"]


@pytest.mark.parametrize("what", ["state.should_stop", "state.step", "should_stop", "model"])
def test_what_an_observer_sets_in_vain_is_told(build, what):
    def sets(trainer, *_):
        owner, _, name = what.rpartition(".")
        setattr(getattr(trainer, owner) if owner else trainer, name, True)

    name = what.rpartition(".")[2]
    with pytest.warns(UserWarning, match=f"an observer cannot set '{name}': .* role='actor' can"):
        build(observers={"one": Sees(sets)}).fit()


def test_the_state_that_an_observer_keeps_does_not_go_on(build):
    kept = []
    build(observers={"one": Sees(lambda trainer, *_: kept.append(trainer.state))}).fit()
    steps = [state.step for state in kept]
    assert (steps[0], steps[-1]) == (0, 6)
    assert kept[-1].metrics["val/loss"] > 0


def test_what_an_observer_raises_is_reported_once_each(build):
    with pytest.warns(UserWarning, match="failed in on_fit_start") as told:
        build(observers={"one": Sees(raises), "two": Sees(exits)}).fit()
    assert [str(each.message) for each in told] == [
        f"callbacks.{label} failed in on_fit_start: {error}; training goes on, and its further errors are not shown"
        for label, error in (("one", "ValueError: it"), ("two", "SystemExit: 3"))
    ]


def test_an_interrupt_is_not_the_observers_error(build):
    def interrupts(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(observers={"one": Sees(interrupts)}).fit()


def test_an_observer_whose_state_cannot_be_had_is_saved_without(build):
    class Stateless:
        def state_dict(self):
            torch.manual_seed(0)
            raise ValueError("none")

        def load_state_dict(self, state): ...

    trainer = build(observers={"bad": Stateless(), "good": Sees(draws)})
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match=r"callbacks\.bad failed in state_dict: ValueError: none"):
        assert set(trainer.callbacks.state_dict(trainer)) == {"good"}
    assert torch.equal(torch.get_rng_state(), before)


def test_observers_get_copies_of_their_own(build):
    seen = []

    class First:
        def on_step_end(self, trainer, output):
            vars(output)["lr"] = vars(trainer)["settings"] = None

        def on_evaluation(self, trainer, split, metrics):
            metrics.clear()

    class Second:
        def on_step_end(self, trainer, output):
            seen.append((output.lr, trainer.settings.epochs, output.samples, output.stepped, float(output.loss) > 0))

        def on_evaluation(self, trainer, split, metrics):
            seen.append(list(metrics))

    build(observers={"first": First(), "second": Second()}, epochs=1, batch_size=10).fit()
    assert seen == [(0.1, 1, 10, True, True), ["loss"]]


def test_a_view_shows_the_training_as_it_is_and_of_what_cannot_be_copied_the_state(build):
    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("no")

    shown = []

    class Looks:
        def on_epoch_end(self, trainer):
            shown.append((trainer.model, trainer.optimizer, trainer.scheduler, trainer.state, trainer.device))

    trainer = build(lambda: Uncopied(3, 2), observers={"looks": Looks()}, epochs=1)
    trainer.fit()
    ((weights, optimizer, scheduler, state, device),) = shown
    assert torch.equal(weights["weight"], trainer.model.weight)
    assert weights["weight"].data_ptr() != trainer.model.weight.data_ptr()
    assert type(optimizer) is torch.optim.SGD
    assert optimizer is not trainer.optimizer
    assert scheduler.get_last_lr() == trainer.scheduler.get_last_lr()
    assert (state.step, state.epoch, device) == (3, 1, trainer.device)


def test_nobody_pays_for_an_event_that_nobody_listens_to(build, monkeypatch):
    trainer = build(observers={"end": type("End", (), {"on_fit_end": lambda self, trainer: None})()})
    called = []
    monkeypatch.setattr("ptb.training.observers.view_of", lambda trainer: called.append(trainer))
    trainer.fit()
    assert len(called) == 1


get_state, set_state = np.random.get_state, np.random.set_state


def test_the_state_of_numpy_is_read_and_written_only_where_somebody_drew(build, monkeypatch):
    """Both take longer than a small training step."""

    class Nothing:
        def on_step_end(self, trainer, output): ...

    trainer = build(observers={"nothing": Nothing()})
    output = trainer.train_step([next(trainer.train_loader.epoch(1))])
    observers = trainer.callbacks.observers
    notify = partial(observers.notify, "on_step_end", listeners(observers.components, "on_step_end"), trainer, output)
    notify()
    asked = []
    monkeypatch.setattr(np.random, "get_state", lambda **options: asked.append("get") or get_state(**options))
    monkeypatch.setattr(np.random, "set_state", lambda state: asked.append("set") or set_state(state))
    for _ in range(3):
        notify()
    assert asked == []
    np.random.rand()
    notify()
    assert asked == ["get"]


def test_an_observer_that_is_added_sees_the_training(build):
    seen = []

    class Looks:
        def on_fit_end(self, trainer):
            seen.append(trainer.state.step)

    trainer = build(epochs=1)
    trainer.callbacks.observers.components["later"] = Looks()
    trainer.callbacks.attach([], trainer.notes.save)
    trainer.fit()
    assert seen == [3]
    assert list(trainer.callbacks.components()) == ["later"]


def test_an_observer_sees_a_copy_of_the_gradients():
    model = nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    view = view_of(SimpleNamespace(model=model, run=None, request_checkpoint=None))
    seen = view.model
    assert torch.equal(seen.weight.grad, model.weight.grad)
    seen.weight.grad.fill_(7)
    assert model.weight.grad.tolist() == [[1, 1]]
