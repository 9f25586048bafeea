import torch
from torch import nn
from torch.nn import functional as F


def fits_a_run(spec):
    if spec.target == "real":
        raise ValueError("it takes classes")
    return F.cross_entropy


def random_state_is_left_alone(spec):
    return lambda scores, targets: F.mse_loss(scores, targets) + 0 * torch.rand(())


def fits_a_run_2(spec):
    return lambda scores, targets: F.mse_loss(scores, targets, reduction="none").mean(0)


def fits_a_run_5(spec):
    return lambda scores, targets: (scores.round() == targets.round()).sum()


def fits_a_run_4(spec):
    return lambda scores, targets: F.mse_loss(scores.detach(), targets)


def arguments_are_left_alone(spec):
    return lambda scores, targets: F.mse_loss(scores, targets.data.clamp_(-0.5, 0.5))


def batches_add_up_5(spec):
    return lambda scores, targets: F.mse_loss(scores, targets) + scores.std(0, correction=1).mean()


def batches_add_up_6(spec):
    def loss(scores, targets):
        weights = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
        return (weights * (scores - targets) ** 2).mean()

    return loss


def same_value_in_evaluation(spec):
    return lambda scores, targets: F.mse_loss(scores, targets) * (1 if torch.is_grad_enabled() else 2)


def gradient_reaches_the_scores(spec):
    return lambda scores, targets: F.nll_loss(scores.softmax(1).log(), targets)


def batches_add_up(spec):
    return lambda scores, targets: F.mse_loss(scores, targets).sqrt()


def batches_add_up_2(spec):
    return lambda scores, targets: ((scores.squeeze(1) - targets) ** 2).mean()  # [B] - [B, 1] is [B, B]


def batches_add_up_3(spec):
    return lambda scores, targets: ((scores.squeeze(1) - targets) ** 2).mean()  # the same, where there is one number


def batches_add_up_4(spec):
    def loss(scores, targets):
        return F.cross_entropy(scores, targets, torch.arange(1.0, 6.0, dtype=scores.dtype, device=scores.device))

    return loss  # a mean over weights, and no denominator() tells so


class fits_a_run_3(nn.CrossEntropyLoss):
    def __init__(self, spec):
        super().__init__()

    def denominator(self, targets):
        return torch.ones_like(targets)


class HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient / 2


def gradcheck(spec):
    return lambda scores, targets: HalfGradient.apply(F.cross_entropy(scores, targets))


class moves_to_a_device(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.weights = torch.linspace(1, 2, spec.output_size)

    def double(self):
        self.weights = self.weights.double()
        return self

    def forward(self, scores, targets):
        return F.cross_entropy(scores + self.weights, targets)


class Calls:
    number = 0


class resumes_exactly(nn.Module):
    """What it counts is in an object of its own, which no state_dict has."""

    def __init__(self, spec):
        super().__init__()
        self.calls = Calls()

    def forward(self, scores, targets):
        self.calls.number += 1
        return F.mse_loss(scores, targets)
