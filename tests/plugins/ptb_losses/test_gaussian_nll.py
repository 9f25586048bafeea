import pytest
import torch
import torch.nn.functional as F

from ptb import ConfigError, DataSpec
from ptb_losses.gaussian_nll import GaussianNLL

SPECS = {
    "numbers": DataSpec((4,), "vector", "real", 3),
    "positions": DataSpec((1, 4, 6), "image", "real", 3, positions=(4, 6)),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def samples(spec, scale=1.0, dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(5, 6, *spec.positions, generator=random, dtype=dtype)
    return scores.requires_grad_(), torch.randn(5, 3, *spec.positions, generator=random, dtype=dtype)


@every_spec
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_it_is_torch_s_of_a_variance_by_softplus(built_in, spec, full, reduction):
    loss = built_in.build("loss", "gaussian-nll", spec, full=full, reduction=reduction, eps=1e-4)
    assert loss.output_size == 6
    (scores, targets), (again, _) = samples(spec), samples(spec)
    variance = F.softplus(again[:, 3:]) + 1e-4
    wanted = torch.nn.GaussianNLLLoss(full=full, reduction=reduction, eps=1e-9)(again[:, :3], targets, variance)
    torch.testing.assert_close(loss(scores, targets), wanted, rtol=1e-12, atol=1e-12)
    loss(scores, targets).sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(scores.grad, again.grad, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(lambda scores: loss(scores, targets), (scores,))


@every_spec
def test_predictions_are_the_means(spec):
    scores, _ = samples(spec)
    assert torch.equal(GaussianNLL(spec).predictions(scores), scores[:, :3])


@pytest.mark.parametrize("scale", [0.0, 100.0, 1e4])
def test_of_extreme_scores_value_and_gradient_are_finite(scale):
    scores, targets = samples(SPECS["numbers"], scale, torch.float32)
    value = GaussianNLL(SPECS["numbers"])(scores, targets)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


def test_what_makes_it_smallest_is_mean_and_variance_of_the_targets():
    targets = 3 + 2 * torch.randn(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    loss = GaussianNLL(DataSpec((1,), "vector", "real", 1))
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(scores.expand(400, 2), targets)
        value.backward()
        return value

    optimizer.step(closure)
    assert float(scores[0, 0].detach()) == pytest.approx(float(targets.mean()), abs=1e-3)
    assert float(F.softplus(scores[0, 1]).detach()) == pytest.approx(float(targets.var(correction=0)), abs=1e-3)


@pytest.mark.parametrize("eps", [0, -1, 2])
def test_the_least_variance_is_above_0(built_in, eps):
    with pytest.raises(ConfigError, match=r"loss\.eps"):
        built_in.build("loss", "gaussian-nll", SPECS["numbers"], eps=eps)


def test_scores_of_another_width_are_refused_rather_than_repeated():
    with pytest.raises(RuntimeError, match="shape"):
        GaussianNLL(SPECS["numbers"])(torch.zeros(5, 2), torch.zeros(5, 3))
