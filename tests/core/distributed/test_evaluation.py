"""An evaluation by several processes is that of one, to the last bit."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ptb import DataSpec
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb.training.evaluation import evaluate
from ptb.training.objective import Objective
from ptb_losses.cross_entropy import CrossEntropy
from ptb_metrics.accuracy import Accuracy
from ptb_metrics.f1 import F1

CPU = torch.device("cpu")
SPEC = DataSpec((5,), "vector", "class", 3)


def figures(size, world=None):
    generator = torch.Generator().manual_seed(size)
    data = TensorDataset(torch.randn(size, 5, generator=generator), torch.randint(3, (size,), generator=generator))
    model = nn.Linear(5, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    loss = CrossEntropy(SPEC, weight=[1.0, 2.0, 0.5], ignore_index=1)
    loader = BatchLoader(make_sources({"val": data}, CPU)["val"], batch_size=16)
    objective = Objective(model, loss, CPU)
    if world is not None:
        objective.processes = world
    return evaluate(objective, {"accuracy": Accuracy(SPEC), "f1": F1(SPEC)}, loader)


@pytest.mark.parametrize("size", [1, 7, 101, 1500])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_every_sample_counts_once(in_ranks, size, processes):
    wanted = figures(size)
    found = in_ranks(processes, lambda world: figures(size, world))
    assert [*map(str, found)] == [str(wanted)] * processes  # as text: a figure of no sample is NaN
