import math
import random

import torch


class _Good:
    """Good: the mean absolute error; what the others are made of."""

    def __init__(self, spec):
        self.reset()

    def reset(self):
        self.sum, self.count = 0.0, 0

    def update(self, scores, targets):
        self.sum = self.sum + (scores - targets).abs().sum()
        self.count += targets.numel()

    def compute(self):
        return float(self.sum) / self.count


def fits_a_run(spec):
    return abs


class random_state_is_left_alone(_Good):
    def update(self, scores, targets):
        random.random()
        super().update(scores, targets)


class figures_are_finite(_Good):
    def compute(self):
        super().compute()
        return math.inf


class fits_a_run_2(_Good):
    def compute(self):
        return torch.tensor([super().compute(), 0.0])


class figures_are_finite_2(_Good):
    def compute(self):
        return {"mean": super().compute(), "spread": math.nan}


class arguments_are_left_alone(_Good):
    def update(self, scores, targets):
        super().update(scores.clamp_(-1, 1), targets)


class resumes_exactly_2(_Good):
    totals = [0.0, 0]  # noqa: RUF012  # the fault

    def reset(self):
        self.totals[:] = [0.0, 0]

    def update(self, scores, targets):
        self.totals[0] += float((scores - targets).abs().sum())
        self.totals[1] += targets.numel()

    def compute(self):
        return self.totals[0] / self.totals[1]


class batches_add_up(_Good):
    def update(self, scores, targets):
        self.sum = self.sum + (scores - targets).abs().mean()
        self.count += 1


class batches_add_up_2(_Good):
    def update(self, scores, targets):
        super().update(scores if len(scores) > 1 else targets, targets)


class batches_add_up_3(_Good):
    first = None

    def reset(self):
        super().reset()
        self.first = None

    def update(self, scores, targets):
        if self.first is None:
            self.first = (scores - targets).abs()[0].mean()

    def compute(self):
        return float(self.first)


class reset_forgets(_Good):
    def __init__(self, spec):
        self.sum, self.count = 0.0, 0

    def reset(self):
        pass


class computing_changes_nothing(_Good):
    def compute(self):
        figure = super().compute()
        self.reset()
        self.sum, self.count = figure, 1
        return figure


class works_in_evaluation(_Good):
    def update(self, scores, targets):
        super().update(scores, targets if torch.is_grad_enabled() else 0 * targets)


class Sums:
    def __init__(self):
        self.sum, self.count = 0.0, 0


class resumes_exactly(_Good):
    """Its sums are in an object of its own, which no state has."""

    def reset(self):
        self.sums = Sums()

    def update(self, scores, targets):
        self.sums.sum = self.sums.sum + (scores - targets).abs().sum()
        self.sums.count += targets.numel()

    def compute(self):
        return float(self.sums.sum) / self.sums.count


class details_are_json(_Good):
    def details(self):
        return {"sum": torch.tensor(float(self.sum))}


class details_are_json_2(_Good):
    def details(self):
        return {"rows": [{"sum": math.nan}]}


class details_are_json_3(_Good):
    def details(self):
        return {"spread": math.nan if self.count <= 3 else 1.0}


class works_on_a_device(_Good):
    def reset(self):
        self.sum, self.count = torch.zeros(3), 0

    def update(self, scores, targets):
        self.sum = self.sum + (scores - targets).abs().sum(0)
        self.count += targets.numel()

    def compute(self):
        return float(self.sum.sum()) / self.count
