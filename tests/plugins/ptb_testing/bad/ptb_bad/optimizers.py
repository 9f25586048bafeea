from typing import Annotated

import torch
from pydantic import Field
from torch.optim import SGD, Optimizer

Rate = Annotated[float, Field(ge=0, description="Learning rate")]


class _Good(Optimizer):
    """Good: what the others are made of; ``rate`` gives the length of a step."""

    def __init__(self, params, *, lr: Rate = 0.01):
        super().__init__(params, {"lr": lr})

    def rate(self, group, state):
        return group["lr"]

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=self.rate(group, self.state[parameter]))
        return loss


def fits_a_run(params):
    return list(params)


class fits_a_run_2(_Good):
    def step(self, closure):
        raise RuntimeError("not today")


class obeys_its_learning_rate(_Good):
    def rate(self, group, state):
        return self.defaults["lr"]


class lowers_the_loss(_Good):
    def rate(self, group, state):
        return -group["lr"]


class takes_parameter_groups(_Good):
    def rate(self, group, state):
        return self.param_groups[0]["lr"]


class resumes_exactly(_Good):
    steps = 0

    def rate(self, group, state):
        self.steps += 1
        return group["lr"] / self.steps


class Count:
    value = 0


class fits_a_run_3(_Good):
    def rate(self, group, state):
        state.setdefault("count", Count())
        return group["lr"]


class skips_parameters_without_gradient(SGD):
    def __init__(self, params, *, lr: Rate = 0.01):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.data.mul_(0.9)
        return super().step(closure)
