"""What an initializer owes: it changes the values of parameters, and nothing else."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ptb.errors import listing
from ptb.seeding import seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.checks.support import nothing_fits, on, on_other_device, other_device, refusals
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.samples import REFERENCE_INPUTS, reference_models
from ptb_testing.state import differences, identical


def build(case: Case) -> list[str]:
    """The reference models that it takes."""
    refused: dict[str, str] = {}
    taken = []
    for name, model in reference_models().items():
        with refusals(name, refused), torch.no_grad():
            case.build(model)
            taken.append(name)
    if not taken:
        raise nothing_fits(refused)
    return taken


def use(case: Case) -> Any:
    """The parameters that it leaves."""
    models = reference_models()
    with torch.no_grad():
        for name in case.built:
            case.build(models[name])
    return {name: dict(models[name].named_parameters()) for name in case.built}


def returns_nothing(case: Case) -> None:
    """It changes the model in place: what it returns is thrown away, so it is None."""
    for name in case.built:
        with torch.no_grad():
            returned = case.build(reference_models()[name])
        if returned is not None:
            raise CheckFailed(
                f"{name}: it returns a {type(returned).__name__}, which nobody uses; change in place instead"
            )


def parameters_stay_the_same_objects(case: Case) -> None:
    """Parameters keep their identity, shape, type, `requires_grad` and memory: only their values change."""
    for name in case.built:
        model = reference_models()[name]
        before = {key: _identity(p) for key, p in model.named_parameters()}
        with torch.no_grad():
            case.build(model)
        after = {key: _identity(p) for key, p in model.named_parameters()}
        for key in {**before, **after}:
            changed = [fact for fact, value in before.get(key, {}).items() if after.get(key, {}).get(fact) != value]
            if changed or key not in before:
                raise CheckFailed(
                    f"{name}: {key} has another {listing(changed) or 'name'} after it; optimizers and shared weights "
                    "hold on to what was there: use fill_, copy_ or torch.nn.init"
                )


def touches_parameters_only(case: Case) -> None:
    """Buffers, layers, modes and hooks of the model are as before."""
    for name in case.built:
        model = reference_models()[name]
        buffers = {key: buffer.clone() for key, buffer in model.named_buffers()}
        layers = _layers(model)
        with torch.no_grad():
            case.build(model)
        changed = differences(buffers, dict(model.named_buffers()))
        if changed or len(buffers) != len(dict(model.named_buffers())):
            raise CheckFailed(f"{name}: it changes the buffers {listing(changed, 5)}, which are no parameters")
        if layers != _layers(model):
            raise CheckFailed(f"{name}: it changes the layers, their training mode or their hooks")


def values_are_finite(case: Case) -> None:
    """It leaves no parameter that is infinite or NaN."""
    for name in case.built:
        odd = [key for key, p in _initialized(case, name).named_parameters() if not bool(torch.isfinite(p).all())]
        if odd:
            raise CheckFailed(f"{name}: {listing(odd, 5)} is not finite")


def scores_are_finite(case: Case) -> None:
    """A model that it has initialized gives finite scores."""
    for name in case.built:
        model = _initialized(case, name).eval()
        with torch.no_grad():
            scores = model(REFERENCE_INPUTS[name]())
        if not bool(torch.isfinite(scores).all()):
            raise CheckFailed(f"{name}: the scores after it are not finite: its values are too large")


class SampleGenerator(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
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
    if identical(case.observed[0].generators[1]["torch"], case.observed[2].generators[1]["torch"]):
        raise Skipped("it seeds torch's global generator")
    drawing = []
    for name in case.built:
        model = reference_models()[name]
        with torch.no_grad(), SampleGenerator() as draws:
            case.build(model)
        if draws.count:
            drawing.append(name)
    for name in drawing:
        if identical(*(dict(_initialized(case, name, seed).named_parameters()) for seed in (1, 2))):
            raise CheckFailed(
                f"{name}: it draws, and gives the same values for every seed of the run: use torch's global generator, "
                "which the core has seeded, instead of one of its own"
            )
    return None if drawing else "it draws nothing from torch"


def works_on_a_device(case: Case) -> str:
    """It initializes a model on the device where that is."""
    device = other_device()
    for name in case.built:
        model = reference_models()[name].to(device)
        with on(name), on_other_device(device), torch.no_grad():
            case.build(model)
        moved = [key for key, p in model.named_parameters() if p.device.type != device.type]
        if moved:
            raise CheckFailed(f"{name}: it moves {listing(moved, 5)} from {device} to another device")
    return f"tried on {device}"


KIT = Kit(
    build=build,
    use=use,
    may_draw=True,
    checks=(
        returns_nothing,
        parameters_stay_the_same_objects,
        touches_parameters_only,
        values_are_finite,
        scores_are_finite,
        the_seed_has_an_effect,
        works_on_a_device,
    ),
    gates=(values_are_finite,),
    optional=(works_on_a_device,),
)


def _initialized(case: Case, name: str, seed: int = 0) -> nn.Module:
    seed_global(0, "model")
    model = reference_models()[name]
    seed_global(seed, "initializer")
    with torch.no_grad():
        case.build(model)
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
