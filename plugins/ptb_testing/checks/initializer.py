"""What an initializer owes: it changes the values of parameters, and nothing else."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ptb.internals import listing, seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.support import check_taken, on_each, on_other_device, other_device, refusals
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import differing, identical
from ptb_testing.samples import REFERENCE_INPUTS, reference_models


def _name(model: str) -> str:
    return model


def build(case: Case) -> list[str]:
    """The reference models that it takes."""
    refused: dict[str, str] = {}
    taken = []
    for name, model in reference_models().items():
        with refusals(name, refused):
            _initialize(case, model)
            taken.append(name)
    check_taken(case, taken, refused)
    return taken


def use(case: Case) -> Any:
    """The parameters that it leaves."""
    models = reference_models()
    for name in case.built:
        _initialize(case, models[name])
    return {name: dict(models[name].named_parameters()) for name in case.built}


@on_each(_name)
def returns_nothing(case: Case, name: str) -> None:
    """It changes the model in place: what it returns is thrown away, so it is None."""
    returned = _initialize(case, reference_models()[name])
    if returned is not None:
        raise CheckFailed(f"it returns a {type(returned).__name__}, which nobody uses; change in place instead")


@on_each(_name)
def parameters_stay_the_same_objects(case: Case, name: str) -> None:
    """Parameters keep their identity, shape, type, `requires_grad` and memory: only their values change."""
    model = reference_models()[name]
    before = {key: _identity(p) for key, p in model.named_parameters()}
    _initialize(case, model)
    after = {key: _identity(p) for key, p in model.named_parameters()}
    for key in {**before, **after}:
        changed = [fact for fact, value in before.get(key, {}).items() if after.get(key, {}).get(fact) != value]
        if changed or key not in before:
            raise CheckFailed(
                f"{key} has another {listing(changed) or 'name'} after it; optimizers and shared weights hold on to "
                "what was there: use fill_, copy_ or torch.nn.init"
            )


@on_each(_name)
def touches_parameters_only(case: Case, name: str) -> None:
    """Buffers, layers, modes and hooks of the model are as before."""
    model = reference_models()[name]
    buffers = {key: buffer.clone() for key, buffer in model.named_buffers()}
    layers = _layers(model)
    _initialize(case, model)
    if changed := differing(buffers, dict(model.named_buffers())):
        raise CheckFailed(f"it changes the buffers {listing(changed, 5)}, which are no parameters")
    if layers != _layers(model):
        raise CheckFailed("it changes the layers, their training mode or their hooks")


@on_each(_name)
def values_are_finite(case: Case, name: str) -> None:
    """It leaves no parameter that is infinite or NaN, and the scores of the model are finite too."""
    model = _initialized(case, name).eval()
    if odd := [key for key, parameter in model.named_parameters() if not bool(torch.isfinite(parameter).all())]:
        raise CheckFailed(f"{listing(odd, 5)} is not finite")
    with torch.no_grad():
        scores = model(REFERENCE_INPUTS[name]())
    if not bool(torch.isfinite(scores).all()):
        raise CheckFailed("the scores after it are not finite: its values are too large")


class RandomOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts the operations of torch that draw at random, from whichever generator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation comes through here."""
        self.count += torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def the_seed_has_an_effect(case: Case) -> str | None:
    """If it draws from torch, another seed of the run gives other values."""
    if "torch" not in case.observed[0].after.moved_generators(case.observed[2].after):
        raise Skipped("it seeds torch's global generator")
    draws = 0
    for name in case.built:
        model = reference_models()[name]
        with RandomOperations() as operations:
            _initialize(case, model)
        draws += operations.count
        if operations.count and identical(*(dict(_initialized(case, name, s).named_parameters()) for s in (1, 2))):
            raise CheckFailed(
                f"{name}: it draws, and gives the same values for every seed of the run: use torch's global generator, "
                "which the core has seeded, instead of one of its own"
            )
    return None if draws else "it draws nothing from torch"


@on_each(_name)
def works_on_a_device(case: Case, name: str) -> str:
    """It initializes a model on the device where that is."""
    device = other_device()
    model = reference_models()[name].to(device)
    with on_other_device(device):
        _initialize(case, model)
    moved = [key for key, p in model.named_parameters() if p.device.type != device.type]
    if moved:
        raise CheckFailed(f"it moves {listing(moved, 5)} from {device} to another device")
    return f"tried on {device}"


KIT = Kit(
    checks=(
        *common.CHECKS,
        returns_nothing,
        parameters_stay_the_same_objects,
        touches_parameters_only,
        values_are_finite,
        the_seed_has_an_effect,
        works_on_a_device,
    ),
    gates=(values_are_finite,),
    optional=(works_on_a_device,),
    build=build,
    use=use,
    may_draw=True,
)


@torch.no_grad()
def _initialize(case: Case, model: nn.Module) -> Any:
    return case.build(model)


def _initialized(case: Case, name: str, seed: int = 0) -> nn.Module:
    seed_global(0, "model")
    model = reference_models()[name]
    seed_global(seed, "initializer")
    _initialize(case, model)
    return model


def _identity(parameter: nn.Parameter) -> dict[str, Any]:
    return {
        "identity": id(parameter),
        "memory": parameter.data_ptr(),
        "shape": parameter.shape,
        "dtype": parameter.dtype,
        "requires_grad": parameter.requires_grad,
    }


def _layers(model: nn.Module) -> list[tuple[Any, ...]]:
    return [
        (name, id(layer), layer.training, len(layer._forward_hooks), len(layer._forward_pre_hooks))
        for name, layer in model.named_modules()
    ]
