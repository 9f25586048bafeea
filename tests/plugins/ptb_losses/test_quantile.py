import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptb import ConfigError, DataSpec
from ptb_losses.quantile import Quantile

SPECS = {
    "numbers": DataSpec((4,), "vector", "real", 2),
    "positions": DataSpec((1, 4, 6), "image", "real", 2, positions=(4, 6)),
}
QUANTILES = (0.05, 0.5, 0.6, 0.9)
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def samples(spec):
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 2 * len(QUANTILES), *spec.positions, generator=random, dtype=torch.float64)
    return scores.requires_grad_(), torch.randn(5, 2, *spec.positions, generator=random, dtype=torch.float64)


@every_spec
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_values_are_those_of_the_formula(built_in, spec, reduction):
    loss = built_in.build("loss", "quantile", spec, quantiles=list(QUANTILES), reduction=reduction)
    assert loss.output_size == 8
    scores, targets = samples(spec)
    columns = []
    for place in range(8):
        q, errors = QUANTILES[place % 4], (targets[:, place // 4] - scores[:, place]).detach().numpy()
        columns.append(torch.tensor(np.where(errors >= 0, q * errors, (q - 1) * errors)))
    each = torch.stack(columns, 1)
    wanted = {"none": each, "mean": each.mean(), "sum": each.sum()}[reduction]
    torch.testing.assert_close(loss(scores, targets), wanted, rtol=1e-12, atol=1e-15)
    assert torch.autograd.gradcheck(lambda scores: loss(scores, targets), (scores,))


def test_the_median_alone_is_half_of_l1():
    spec = SPECS["numbers"]
    scores, targets = samples(spec)
    torch.testing.assert_close(
        Quantile(spec, quantiles=[0.5])(scores[:, :2], targets), F.l1_loss(scores[:, :2], targets) / 2
    )


def test_what_makes_it_smallest_are_the_quantiles_of_the_targets():
    targets = torch.tensor(np.random.RandomState(0).gamma(2.0, size=(999, 1)))
    scores = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    loss = Quantile(DataSpec((1,), "vector", "real", 1), quantiles=(0.1, 0.5, 0.9))
    optimizer = torch.optim.SGD([scores], lr=1.0)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 10 / (1 + step / 3)
        optimizer.zero_grad()
        loss(scores.expand(999, 3), targets).backward()
        optimizer.step()
    np.testing.assert_allclose(scores.detach()[0], np.quantile(targets, [0.1, 0.5, 0.9]), atol=0.02)


@every_spec
@pytest.mark.parametrize(("quantiles", "place"), [(QUANTILES, 1), ((0.1, 0.2, 0.9), 1), ((0.3,), 0), ((0.2, 0.9), 1)])
def test_predictions_are_the_median_or_the_quantile_in_the_middle(spec, quantiles, place):
    count = len(quantiles)
    loss, scores = Quantile(spec, quantiles=quantiles), torch.randn(5, 2 * count, *spec.positions)
    assert torch.equal(loss.predictions(scores), scores[:, [place, count + place]])


@pytest.mark.parametrize("quantiles", [[], [0.5, 0.5], [0.9, 0.1], [0.0, 0.5], [1.0]], ids=str)
def test_quantiles_ascend_between_0_and_1(built_in, quantiles):
    with pytest.raises(ConfigError, match="loss"):
        built_in.build("loss", "quantile", SPECS["numbers"], quantiles=quantiles)


def test_values_and_gradients_are_finite_for_large_errors():
    spec = SPECS["numbers"]
    scores = torch.full((5, 6), 1e30, requires_grad=True)
    value = Quantile(spec)(scores, torch.full((5, 2), -1e30))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


def test_scores_of_another_width_are_refused_rather_than_repeated():
    with pytest.raises(RuntimeError, match="shape"):
        Quantile(SPECS["numbers"])(torch.zeros(5, 3), torch.zeros(5, 2))
