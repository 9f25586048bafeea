"""What an initializer owes: it changes the values of parameters, and nothing else."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ptb.internals import listing, seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.support import every_run, on_each, on_other_device, other_device
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import identical
from ptb_testing.samples import REFERENCE_FORMS, reference_models, spec_of
from ptb_testing.trial import Trial, made


def trials(case: Case) -> Iterator[Trial]:
    """Runs of the reference models."""
    for name, form in REFERENCE_FORMS.items():
        model = made("model", lambda spec, name=name: reference_models()[name])
        yield Trial.of(case, name, spec_of(form, "class"), model=model)


def use(case: Case) -> Any:
    """The parameters that it leaves."""
    models = {trial.what: reference_models()[trial.what] for trial in case.tried}
    for model in models.values():
        _initialize(case, model)
    return {name: dict(model.named_parameters()) for name, model in models.items()}


@on_each(every_run)
def changes_values_only(case: Case, trial: Trial) -> None:
    """Parameters keep identity, shape, type, `requires_grad` and memory; buffers, layers and hooks are as before."""
    model = reference_models()[trial.what]
    before = _facts(model) | {"nothing, and returns something": None}
    after = {"nothing, and returns something": _initialize(case, model)} | _facts(model)
    if changed := [fact for fact in {**before, **after} if before.get(fact) != after.get(fact)]:
        raise CheckFailed(
            f"it changes {listing(changed, 5)}: change nothing but values of parameters, in place, with fill_, copy_ "
            "or torch.nn.init, because optimizers and shared weights hold on to what was there"
        )


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
    observed = common.observed(case)
    if "torch" not in observed[0].after.moved_generators(observed[2].after):
        raise Skipped("it seeds torch's global generator")
    draws = 0
    for name in (trial.what for trial in case.tried):
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


@on_each(every_run)
def works_on_a_device(case: Case, trial: Trial) -> str:
    """It initializes a model on the device where that is."""
    device = other_device()
    model = reference_models()[trial.what].to(device)
    with on_other_device(device):
        _initialize(case, model)
    moved = [key for key, p in model.named_parameters() if p.device.type != device.type]
    if moved:
        raise CheckFailed(f"it moves {listing(moved, 5)} from {device} to another device")
    return f"tried on {device}"


OWN = (changes_values_only, the_seed_has_an_effect, works_on_a_device)
KIT = Kit(
    checks=(*common.CHECKS, *OWN),
    optional=(the_seed_has_an_effect, works_on_a_device),
    notes=OWN,
    trials=trials,
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


def _facts(model: nn.Module) -> dict[str, Any]:
    """All of a model but the values of its parameters."""
    facts: dict[str, Any] = {}
    for name, each in model.named_parameters():
        facts[f"the identity of {name}"], facts[f"the memory of {name}"] = id(each), each.data_ptr()
        facts[f"the form of {name}"] = (each.shape, each.dtype, each.requires_grad)
    for name, buffer in model.named_buffers():
        facts[f"the buffer {name}"] = buffer.tolist()
    for name, layer in model.named_modules():
        hooks = len(layer._forward_hooks) + len(layer._forward_pre_hooks)
        facts[f"the layer {name or 'itself'}, its mode or its hooks"] = (id(layer), layer.training, hooks)
    return facts
