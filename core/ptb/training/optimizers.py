"""Optimizers as the trainer needs them: several as one, those of other bases, and those with a mode of their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from ptb.training.blame import Calls
from ptb.training.state import component_state, is_plain, load_component_state, preserve_state


class CombinedOptimizer(Optimizer):
    """Some optimizers as one, whose parameter groups are theirs, so that a scheduler works on all of them.

    Args:
        optimizers: by the section of each. They need ``step``, ``state_dict`` and ``load_state_dict``, and may have
            ``zero_grad`` and ``param_groups``.
        parameters: those of each, for one without ``param_groups``.
        calls: where the one that is being called is noted.
    """

    def __init__(self, optimizers: Mapping[str, Any], parameters: Mapping[str, Sequence[Tensor]], calls: Calls) -> None:
        self.optimizers = dict(optimizers)
        self._made_up = {section: [{"params": [*own]}] for section, own in parameters.items()}
        self._calls = calls
        # The base would make groups of its own; this is its part for hooks.
        self.__setstate__({"defaults": {}})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_optimizer_")}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # the base keeps a list
        """The groups of all, in their order."""
        return [
            group
            for section, optimizer in self.optimizers.items()
            for group in getattr(optimizer, "param_groups", None) or self._made_up[section]
        ]

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        """The state of all by parameter."""
        return {key: value for each in self.optimizers.values() for key, value in getattr(each, "state", {}).items()}

    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """The step of each; only one that is alone can have a closure."""
        for section, optimizer in self.optimizers.items():
            self._calls.now = section
            optimizer.step() if closure is None else optimizer.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients, each in its own way."""
        for section, optimizer in self.optimizers.items():
            self._calls.now = section
            if hasattr(optimizer, "zero_grad"):
                optimizer.zero_grad()
        super().zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of each by its section."""
        return {section: optimizer_state(optimizer) for section, optimizer in self.optimizers.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore it."""
        for section, optimizer in self.optimizers.items():
            self._calls.now = section
            load_optimizer(optimizer, state_dict[section])


def optimizer_state(optimizer: Any) -> Any:
    """Its state, without those options of its groups whose type only its package knows: they are as it was built."""
    state = component_state(optimizer)
    if not isinstance(state, dict) or not isinstance(groups := state.get("param_groups"), list):
        return state
    return state | {"param_groups": [{k: v for k, v in group.items() if is_plain(v)} for group in groups]}


def load_optimizer(optimizer: Any, saved: Any) -> None:
    """Keep the type of every value: torch casts all of them to that of their parameter."""
    built = getattr(optimizer, "param_groups", [])
    if isinstance(saved, dict) and len(groups := saved.get("param_groups", ())) == len(built):
        options = [{k: v for k, v in group.items() if k != "params" and not is_plain(v)} for group in built]
        saved = saved | {"param_groups": [one | other for one, other in zip(options, groups, strict=True)]}
    load_component_state(optimizer, saved)
    if not isinstance(optimizer, Optimizer) or type(optimizer).load_state_dict is not Optimizer.load_state_dict:
        return
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        if number in saved["state"]:
            optimizer.state[parameter] = saved["state"][number]


def learning_rates(optimizer: Optimizer) -> list[float]:
    """Those of the parameter groups that have one."""
    return [float(group["lr"]) for group in optimizer.param_groups if group.get("lr") is not None]


def with_modes(optimizer: Optimizer) -> list[Any]:
    """The optimizers in it that have ``train()`` and ``eval()``: they train with other weights than they evaluate."""
    each = optimizer.optimizers.values() if isinstance(optimizer, CombinedOptimizer) else [optimizer]
    return [one for one in each if callable(getattr(one, "train", None)) and callable(getattr(one, "eval", None))]


@contextmanager
def evaluation_mode(optimizer: Optimizer) -> Iterator[None]:
    """Inside it, the weights are those of the optimizer's ``eval()``; afterwards all is as before, bit for bit.

    Its ``train()`` would give the former weights but for rounding, and a run that is evaluated would be another one.
    """
    modes, groups = with_modes(optimizer), optimizer.param_groups
    states = [dict(getattr(each, "state", {})) for each in modes]
    tables = [*groups, *(entry for state in states for entry in state.values() if isinstance(entry, dict))]
    rows = [dict(table) for table in tables]
    leaves = [
        *tree_leaves([group["params"] for group in groups]),
        *tree_leaves([[*state.values()] for state in states]),
    ]
    tensors = [(leaf, leaf.detach().clone()) for leaf in leaves if isinstance(leaf, Tensor)]
    with preserve_state(*modes):
        try:
            for each in modes:
                each.eval()
            yield
        finally:
            for table, row in zip(tables, rows, strict=True):
                table.clear()
                table.update(row)
            with torch.no_grad():
                for tensor, value in tensors:
                    tensor.copy_(value)


def closure_after(first: Tensor, compute: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Callable[[], Tensor]:
    """A closure for a step whose gradients are there: its first call need not compute them again.

    It computes them all the same where weights or gradients are not as they were. That of SAM moves the weights along
    the gradients before it calls the closure; that of LBFGS calls it at once.

    Args:
        first: the loss of these gradients.
        compute: computes gradients and loss anew.
        parameters: whose weights and gradients are compared.
    """
    weights = [each.detach().clone() for each in parameters]
    gradients = [each.grad for each in parameters]
    versions = [None if each is None else each._version for each in gradients]
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1 and all(each.grad is gradient for each, gradient in zip(parameters, gradients, strict=True)):
            now = [None if each is None else each._version for each in gradients]
            if now == versions and all(map(torch.equal, parameters, weights)):
                return first
        return compute()

    return closure
