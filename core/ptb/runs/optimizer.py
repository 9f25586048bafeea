"""The optimizers of a run: parameter groups, and the fused kernels of torch where they compute the same."""

import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ptb.config.resolve import ComponentConfig, ResolvedConfig
from ptb.config.sections import ParameterGroup
from ptb.errors import ConfigError, IncompatibleError, PluginError, Problem, count, listing
from ptb.runs.blame import building, name_of
from ptb.training.blame import Calls
from ptb.training.optimizers import CombinedOptimizer, with_modes

# They compute the same with and without `fused`, but for the last bits, on every device that a run can have.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
METHODS = ("step", "state_dict", "load_state_dict")
Named = list[tuple[str, nn.Parameter]]


def build_optimizer(config: ResolvedConfig, model: nn.Module, loss: object, calls: Calls) -> Optimizer:
    """The optimizer over the parameters of model and loss, in its mode for training.

    Several, and one that does not derive from torch's, are a ``CombinedOptimizer``, which notes in ``calls`` the one
    that is called.
    """
    calls.now = "model"
    named = [*model.named_parameters()]
    if isinstance(loss, nn.Module):
        calls.now = "loss"
        named += [(f"loss.{name}", parameter) for name, parameter in loss.named_parameters()]
    calls.now = "optimizer"
    shares = _shares(config, named)
    components = {"optimizer": config.optimizer} | {s: c for s, c in config.components().items() if s in shares}
    built = {section: _build(components[section], groups, config, model) for section, groups in shares.items()}
    only = built.get("optimizer")
    if len(built) == 1 and isinstance(only, Optimizer):
        optimizer = only
    else:
        for section, component in components.items() if len(built) > 1 else ():
            if "closure" in component.entry.component.needs or asks_for_closure(built[section]):
                raise IncompatibleError(
                    f"{name_of(component)} evaluates the loss in its step and cannot be one of several optimizers"
                )
        parameters = {
            section: [parameter for group in groups for _, parameter in group["params"]]
            for section, groups in shares.items()
        }
        optimizer = CombinedOptimizer(built, parameters, calls)
    # Once for all: whatever is evaluated or saved puts this mode back.
    for each in with_modes(optimizer):
        with building(config.optimizer):
            each.train()
    return optimizer


def needs(config: ResolvedConfig, optimizer: Optimizer) -> set[str]:
    """What the optimizers of a run ask of a step; one that cannot do without a closure need not say so."""
    components = [config.optimizer, *(group.optimizer for group in config.groups if group.members.name)]
    found = {need for component in components for need in component.entry.component.needs}
    inner = [*optimizer.optimizers.values()] if isinstance(optimizer, CombinedOptimizer) else [optimizer]
    return found | ({"closure"} if any(map(asks_for_closure, inner)) else set())


def asks_for_closure(optimizer: Any) -> bool:
    """Whether ``step`` cannot do without a closure, which makes ``torch.optim:LBFGS`` a target that need not say so."""
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


def _shares(config: ResolvedConfig, named: Named) -> dict[str, list[dict[str, Any]]]:
    """The parameter groups of each optimizer by its section, parameters with their names; the plain ones come first."""
    bare_apart = config.grouping.no_decay_on_norms_and_biases
    members: dict[tuple[int, bool], Named] = {}
    for name, parameter in named:
        groups = enumerate(config.groups)
        number = next((n for n, group in groups if _is_in(group.members, name, parameter)), -1)
        members.setdefault((number, bare_apart and parameter.ndim < 2), []).append((name, parameter))
    for number, group in enumerate(config.groups):
        if not any(owner == number for owner, _ in members):
            match, ndim = group.members.match, group.members.ndim
            what = f"'{match}' matches no parameter" if match else "there is no parameter"
            what += "" if ndim is None else f" of {count(ndim, 'dimension')}"
            message = f"{what} that earlier groups have left; there are: {listing([name for name, _ in named])}"
            raise ConfigError(Problem(f"optimizer.groups[{number}].{'match' if match else 'ndim'}", message))
    shares: dict[str, list[dict[str, Any]]] = {}
    for (number, bare), parameters in sorted(members.items(), key=lambda each: each[0]):
        chosen = config.groups[number] if number >= 0 else None
        section = f"optimizer.groups[{number}]" if chosen and chosen.members.name else "optimizer"
        options = (chosen.options if chosen else {}) | ({"weight_decay": 0.0} if bare else {})
        shares.setdefault(section, []).append({"params": parameters, **options})
    if "optimizer" not in shares:
        message = f"leave no parameter to {name_of(config.optimizer)}: name that of a group in optimizer.name instead"
        raise ConfigError(Problem("optimizer.groups", message))
    return {"optimizer": shares.pop("optimizer"), **shares}


def _is_in(group: ParameterGroup, name: str, parameter: nn.Parameter) -> bool:
    matches = group.match is None or fnmatchcase(name, group.match)
    return matches and group.ndim in (None, parameter.ndim)


def _build(
    component: ComponentConfig, groups: Sequence[Mapping[str, Any]], config: ResolvedConfig, model: nn.Module
) -> Any:
    """One optimizer over its parameters: a plain list of them where no group has options of its own."""
    asked = component.entry.component.needs
    # Without groups it need not know any.
    grouped = len(groups) > 1 or len(groups[0]) > 1
    remedy = "; perhaps it takes no optimizer.groups: leave them out" if grouped else ""
    given = {"model": model} if "model" in asked else {}

    def parameters() -> list[Any]:
        named = "named-parameters" in asked
        made = [{**g, "params": [pair if named else pair[1] for pair in g["params"]]} for g in groups]
        return made if grouped else made[0]["params"]

    with building(component, name_of(config.model), remedy):
        optimizer = component.build(parameters(), **given)
        if _can_be_fused(component.entry.load(), optimizer, model):
            optimizer = component.build(parameters(), **given, fused=True)
    if missing := [method for method in METHODS if not callable(getattr(optimizer, method, None))]:
        raise PluginError(
            f"{component.entry} must give an object with {listing(METHODS)}, as torch.optim.Optimizer has them; it "
            f"gives {type(optimizer).__name__} without {listing(missing)}"
        )
    # What an optimizer reads from its groups stands in all of them.
    options = {key for group in groups for key in group} - {"params", "weight_decay"}
    made = getattr(optimizer, "param_groups", [])
    if unused := sorted(key for key in options if not all(key in group for group in made)):
        raise IncompatibleError(
            f"{name_of(component)} reads no {listing(unused)} from its parameter groups: set it in the section "
            "optimizer, for all parameters"
        )
    if isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["fused"]:
        optimizer.register_step_pre_hook(_begin_momentum)
    return optimizer


def _can_be_fused(target: object, optimizer: Any, model: nn.Module) -> bool:
    """Whether torch has one kernel for the whole step; neither sparse gradients nor integers can have it."""
    if target not in FUSED or any(optimizer.defaults.get(each) for each in ("foreach", "fused", "differentiable")):
        return False
    if optimizer.defaults["fused"] is False:  # somebody has said so
        return False
    # With dampening, the first step is not dampened, whenever a parameter takes it: the kernel knows no such thing.
    dampened = any(group.get("dampening") for group in optimizer.param_groups)
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return not dampened and not sparse and all(each.is_floating_point() for each in parameters)


def _begin_momentum(optimizer: Optimizer, *_: Any) -> None:
    """Gives a momentum of 0 to parameters that get their first gradient after others, which the fused SGD cannot."""
    for group in optimizer.param_groups:
        moved = [each for each in group["params"] if each.grad is not None]
        new = [each for each in moved if optimizer.state.get(each, {}).get("momentum_buffer") is None]
        if group["momentum"] and len(new) < len(moved):
            for each in new:
                optimizer.state[each]["momentum_buffer"] = torch.zeros_like(each)
