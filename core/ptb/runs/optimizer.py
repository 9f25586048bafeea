"""The optimizer of a run: parameter groups, and the fused kernels of torch where they compute the same."""

import inspect
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ptb.config.resolve import ResolvedConfig
from ptb.config.sections import Grouping
from ptb.errors import ConfigError, PluginError, Problem, listing
from ptb.runs.blame import building, name_of

# They compute the same with and without `fused`, but for the last bits, on every device that a run can have.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def build_optimizer(config: ResolvedConfig, model: nn.Module) -> Optimizer:
    """The optimizer over the model's parameters."""
    component = config.optimizer
    grouping = config.grouping
    parameters = _parameters(model, grouping)
    remedy = "; perhaps it takes no optimizer.groups: leave them out" if isinstance(parameters, list) else ""
    with building(component, name_of(config.model), remedy):
        optimizer = component.build(parameters)
        if _can_be_fused(component.entry.load(), optimizer, model):
            optimizer = component.build(_parameters(model, grouping), fused=True)
    if not isinstance(optimizer, Optimizer):
        raise PluginError(f"{component.entry} must give a torch Optimizer, it gives {type(optimizer).__name__}")
    if optimizer.defaults.get("fused") and "momentum" in optimizer.defaults:
        optimizer.register_step_pre_hook(_begin_momentum)
    return optimizer


def asks_for_closure(optimizer: Optimizer) -> bool:
    """Whether ``step`` cannot do without a closure, which makes ``torch.optim:LBFGS`` a target that need not say so."""
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


def _parameters(model: nn.Module, grouping: Grouping) -> Iterable[nn.Parameter] | list[dict[str, Any]]:
    """The model's parameters, in groups where the section ``optimizer`` asks for some; the plain ones come first."""
    if not grouping.groups and not grouping.no_decay_on_norms_and_biases:
        return model.parameters()
    members: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        number = next((n for n, group in enumerate(grouping.groups) if fnmatchcase(name, group.match)), -1)
        bare = grouping.no_decay_on_norms_and_biases and parameter.ndim < 2
        members.setdefault((number, bare), []).append(parameter)
    names = [name for name, _ in model.named_parameters()]
    for number, group in enumerate(grouping.groups):
        if not any(owner == number for owner, _ in members):
            message = f"'{group.match}' matches no parameter that earlier groups have left; there are: {listing(names)}"
            raise ConfigError(Problem(f"optimizer.groups[{number}].match", message))
    return [
        {
            "params": parameters,
            **(grouping.groups[number].model_dump(exclude={"match"}, exclude_none=True) if number >= 0 else {}),
            **({"weight_decay": 0.0} if bare else {}),
        }
        for (number, bare), parameters in sorted(members.items())
    ]


def _can_be_fused(target: object, optimizer: Any, model: nn.Module) -> bool:
    """Whether torch has one kernel for the whole step; neither sparse gradients nor integers can have it."""
    if target not in FUSED or any(optimizer.defaults.get(each) for each in ("foreach", "fused", "differentiable")):
        return False
    if optimizer.defaults["fused"] is False:  # somebody has said so
        return False
    # With dampening, the first step is not dampened, whenever a parameter takes it: the kernel knows no such thing.
    dampened = any(group.get("dampening") for group in optimizer.param_groups)
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    return not dampened and not sparse and all(each.is_floating_point() for each in model.parameters())


def _begin_momentum(optimizer: Optimizer, *_: Any) -> None:
    """Gives a momentum of 0 to parameters that get their first gradient after others, which the fused SGD cannot."""
    for group in optimizer.param_groups:
        moved = [each for each in group["params"] if each.grad is not None]
        new = [each for each in moved if optimizer.state.get(each, {}).get("momentum_buffer") is None]
        if group["momentum"] and len(new) < len(moved):
            for each in new:
                optimizer.state[each]["momentum_buffer"] = torch.zeros_like(each)
