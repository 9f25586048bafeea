"""What an optimizer owes: it makes a loss smaller, obeys its learning rate, and goes on exactly from its state."""

import copy
import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.seeding import generator, seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.state import identical

STEPS = 100
SHORT = 4


class Quadratic:
    """A smooth valley of two parameters: half the weighted squared distance from fixed places.

    Args:
        sparse: the gradients are sparse, as those of embeddings.
    """

    def __init__(self, sparse: bool) -> None:
        source = generator(0, "quadratic")
        self.sparse = sparse
        self.weights = [nn.Parameter(torch.randn(shape, generator=source)) for shape in ((5, 3), (4, 2))]
        self.places = [torch.randn(weight.shape, generator=source) for weight in self.weights]
        self.slopes = [torch.rand(weight.shape, generator=source) + 0.5 for weight in self.weights]

    def loss(self) -> Tensor:
        """The height at the weights."""
        parts = zip(self.weights, self.places, self.slopes, strict=True)
        return torch.stack([(slope * (self._seen(w) - place) ** 2).sum() / 2 for w, place, slope in parts]).sum()

    def height(self) -> float:
        """The loss, as a number."""
        return float(self.loss().detach())

    def values(self) -> list[Tensor]:
        """Copies of the weights."""
        return [weight.detach().clone() for weight in self.weights]

    def _seen(self, weight: Tensor) -> Tensor:
        return F.embedding(torch.arange(len(weight)), weight, sparse=True) if self.sparse else weight


def build(case: Case) -> None:
    """It is one of torch's optimizers."""
    optimizer = case.build(_problem(case).weights)
    if not isinstance(optimizer, Optimizer):
        raise CheckFailed(f"it gives a {type(optimizer).__name__}; the core needs a torch.optim.Optimizer")


def use(case: Case) -> Any:
    """The weights after a few steps."""
    problem = _problem(case)
    _steps(case, problem, case.build(problem.weights), SHORT)
    return problem.values()


def lowers_a_quadratic(case: Case) -> str:
    """A hundred steps with the default settings lead down in a smooth valley."""
    problem = _problem(case)
    start = problem.height()
    _steps(case, problem, case.build(problem.weights), STEPS)
    end = problem.height()
    if not math.isfinite(end) or end >= start:
        raise CheckFailed(f"{STEPS} steps took the loss of a quadratic from {start:.4g} to {end:.4g}; is a sign wrong?")
    return f"from {start:.3g} to {end:.3g} in {STEPS} steps"


def resumes_exactly(case: Case) -> None:
    """A new one that loads the `state_dict` takes the same steps, to the last bit."""
    whole = _problem(case)
    optimizer = case.build(whole.weights)
    _steps(case, whole, optimizer, SHORT)
    weights, state = whole.values(), copy.deepcopy(optimizer.state_dict())
    seed_global(0, "resumed")  # the core restores the generators too
    _steps(case, whole, optimizer, SHORT)
    rest = _problem(case)
    with torch.no_grad():
        for weight, value in zip(rest.weights, weights, strict=True):
            weight.copy_(value)
    resumed = case.build(rest.weights)
    resumed.load_state_dict(state)
    seed_global(0, "resumed")
    _steps(case, rest, resumed, SHORT)
    if not identical(whole.values(), rest.values()):
        raise CheckFailed(
            "after its state_dict was loaded it takes other steps: keep what a step depends on in "
            "self.state[parameter] or in the parameter groups"
        )


def state_is_plain(case: Case) -> None:
    """Its `state_dict` holds tensors and plain values, which a checkpoint can hold without pickled code."""
    problem = _problem(case)
    optimizer = case.build(problem.weights)
    _steps(case, problem, optimizer, SHORT)
    for place, value in _leaves(optimizer.state_dict()):
        if not isinstance(value, Tensor | int | float | str | None):
            raise CheckFailed(
                f"{place} of its state_dict is a {type(value).__module__}.{type(value).__qualname__}; hold tensors, "
                "numbers and strings, and lists and dicts of them"
            )


def obeys_its_learning_rate(case: Case) -> None:
    """`lr` stands in its parameter groups, where schedulers change it, and another one makes another step."""
    ends = []
    for factor in (1.0, 0.5):
        problem = _problem(case)
        optimizer = case.build(problem.weights)
        for group in optimizer.param_groups:
            if not isinstance(group.get("lr"), int | float | Tensor):
                raise CheckFailed("its parameter groups hold no 'lr', which the core records and schedulers change")
            group["lr"] = factor * float(group["lr"])
        _steps(case, problem, optimizer, 1)
        ends.append(problem.values())
    if identical(*ends):
        raise CheckFailed("with half the lr in its parameter groups it takes the same step: read group['lr'] in step()")


def takes_parameter_groups(case: Case) -> None:
    """Parameters may come in groups with a learning rate of their own, and it obeys it."""
    ends = []
    for factor in (1.0, 0.5):
        problem = _problem(case)
        lr = float(case.build(problem.weights).param_groups[0]["lr"])
        first, second = problem.weights
        groups = [{"params": [first]}, {"params": [second], "lr": factor * lr}]
        try:
            optimizer = case.build(groups)
        except ValueError as error:
            raise Skipped(f"it refuses them: {error}") from error
        seed_global(0, "groups")
        _steps(case, problem, optimizer, 1)
        ends.append(problem.values())
    (first_whole, second_whole), (first_half, second_half) = ends
    if identical(second_whole, second_half):
        raise CheckFailed("with half the lr in one group it takes the same step: read the lr of each group in step()")
    if not identical(first_whole, first_half):
        raise CheckFailed("the lr of one parameter group changes the steps of another one")


def skips_parameters_without_gradient(case: Case) -> None:
    """A parameter without a gradient stays as it is, and does not stop the others."""
    problem = _problem(case)
    idle = nn.Parameter(torch.ones(3, 2))
    _steps(case, problem, case.build([*problem.weights, idle]), SHORT)
    if not identical(idle.detach(), torch.ones(3, 2)):
        raise CheckFailed("it changes a parameter that has no gradient; pass over those whose .grad is None")


KIT = Kit(
    build=build,
    use=use,
    may_draw=False,
    checks=(
        lowers_a_quadratic,
        resumes_exactly,
        state_is_plain,
        obeys_its_learning_rate,
        takes_parameter_groups,
        skips_parameters_without_gradient,
    ),
    gates=(obeys_its_learning_rate,),
    optional=(takes_parameter_groups,),
)


def _problem(case: Case) -> Quadratic:
    return Quadratic("sparse-gradients" in case.entry.component.needs)


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What the state holds in the end, and where: ``state.0.step``."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if inner is None:
        yield place, value
    else:
        for key, part in inner:
            yield from _leaves(part, f"{place}.{key}".removeprefix("."))


def _steps(case: Case, problem: Quadratic, optimizer: Optimizer, count: int) -> None:
    """Steps as the trainer takes them: with a closure where the optimizer needs one."""

    def gradients() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = problem.loss()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss

    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    asks = parameter is not None and parameter.default is parameter.empty
    for _ in range(count):
        if "closure" in case.entry.component.needs or asks:
            value: Any = optimizer.step(gradients)  # type: ignore[arg-type]  # torch's float accepts a tensor
            if not isinstance(value, int | float | Tensor):
                raise CheckFailed(f"step(closure) must return the loss of its first call, it returns {value!r}")
        else:
            gradients()
            optimizer.step()
