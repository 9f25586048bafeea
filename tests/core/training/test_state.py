"""How far a training has come, and the state of objects."""

import copy
from collections import OrderedDict, deque
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn

from ptb.storage.codec import decode, encode
from ptb.training.state import (
    TrainState,
    component_state,
    load_component_state,
    load_weights,
    preserve_state,
)


def test_the_state_of_a_training_comes_back_but_what_asks_for_a_stop():
    state, other = (
        TrainState(step=3, epoch=1, labels={"best": 2}, metrics={"val/loss": 0.5}, stop_signal=2),
        TrainState(),
    )
    state.should_stop = True
    other.load_state_dict(state.state_dict())
    assert (other.step, other.epoch, other.labels, other.should_stop, other.stop_signal) == (
        3,
        1,
        {"best": 2},
        False,
        0,
    )
    other.labels["best"] = 7
    assert state.labels == {"best": 2}


@pytest.mark.parametrize("change", [{"other": 1}, None])
def test_the_state_of_another_version_is_refused(change):
    state = TrainState().state_dict()
    if change:
        state |= change
    else:
        del state["lr"]
    with pytest.raises(ValueError, match="expected"):
        TrainState().load_state_dict(state)


class Plain:
    def __init__(self):
        self.number, self.text, self.array = 1.5, "a", np.arange(3)
        self.tensor, self.nested = torch.ones(2), [{"a": (1, torch.zeros(1))}, {2}]
        self.model, self.function = nn.Linear(1, 1), print
        self.mixed = [1, object()]


def test_plain_attributes_are_the_state_of_what_has_no_other():
    state = component_state(Plain())
    assert set(state) == {"number", "text", "array", "tensor", "nested"}
    other = Plain()
    load_component_state(other, copy.deepcopy(state) | {"number": 7.5})
    assert other.number == 7.5
    assert isinstance(other.model, nn.Module)
    assert component_state(print) == {}
    load_component_state(print, {})


class Mode(StrEnum):
    SQUARE = "square"


class Sizes(NamedTuple):
    rows: int


class Constants:
    def __init__(self):
        self.mode, self.modes, self.sizes, self.recent = Mode.SQUARE, [Mode.SQUARE], Sizes(1), deque([1], 2)


def test_constants_of_types_that_no_checkpoint_can_hold_are_no_state_and_a_deque_is():
    state = decode(encode(component_state(Constants())))
    assert state == {"recent": deque([1])}
    assert state["recent"].maxlen == 2


class Slots:
    __slots__ = ()


class OnlySaves:
    def __init__(self):
        self.number = 1

    def state_dict(self):
        return {"something": 2}


def test_what_cannot_load_a_state_dict_is_saved_by_its_attributes():
    assert component_state(OnlySaves()) == {"number": 1}
    assert component_state(Slots()) == {}


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("grown", torch.zeros(0))
        self.register_buffer("typed", torch.zeros(1))
        self.register_buffer("none", None)
        self.inner = nn.Linear(1, 1)
        self.count = 0
        self.inner.hidden = "x"


def test_a_module_has_a_state_dict_and_attributes():
    module, other = Module(), Module()
    module.grown, module.typed, module.count = torch.ones(3), torch.ones(1, dtype=torch.float64), 4
    module.none = torch.ones(2)
    module.inner.hidden = "y"
    load_component_state(other, component_state(module))
    assert torch.equal(other.grown, torch.ones(3))
    assert other.typed.dtype == torch.float64
    assert torch.equal(other.none, torch.ones(2))
    assert (other.count, other.inner.hidden) == (4, "y")
    assert torch.equal(other.inner.weight, module.inner.weight)


def test_the_figures_of_a_torchmetrics_metric_are_in_no_state_dict_and_come_back():
    metric, other = torchmetrics.MeanSquaredError(), torchmetrics.MeanSquaredError()
    metric.update(torch.ones(2), torch.zeros(2))
    assert not metric.state_dict()
    load_component_state(other, component_state(metric))
    assert other.compute() == metric.compute() == 1


def test_weights_of_another_model_are_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(nn.Linear(3, 2), nn.Linear(4, 2).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        load_weights(nn.Linear(3, 2), {})


def test_a_state_that_is_preserved_is_the_same_object_with_the_same_value():
    module, plain = Module(), Plain()
    plain.tensor.requires_grad_()
    held, buffer = plain.nested, module.typed
    with preserve_state(module, plain, print, Slots()):
        plain.nested[0]["a"] = None
        plain.tensor.data.zero_()
        plain.number = plain.other = 3
        module.typed.fill_(5)
        module.typed = module.grown = torch.ones(9)
        module.register_buffer("more", torch.ones(1))
        module.count = 9
        module.eval()
        torch.rand(1)
        numbers = torch.get_rng_state()
    assert plain.nested is held
    assert held == [{"a": (1, torch.zeros(1))}, {2}]
    assert plain.tensor.sum() == 2
    assert (plain.number, hasattr(plain, "other"), module.count, module.training) == (1.5, False, 0, True)
    assert module.typed is buffer
    assert list(module.state_dict()) == ["grown", "typed", "inner.weight", "inner.bias"]
    assert float(buffer) == 0
    assert not torch.equal(numbers, torch.get_rng_state())


def test_ordered_and_default_containers_keep_their_type_in_the_block():
    plain = Plain()
    plain.ordered = OrderedDict(a=1)
    with preserve_state(plain):
        assert isinstance(plain.ordered, OrderedDict)
        plain.ordered["b"] = 2
    assert list(plain.ordered) == ["a"]
