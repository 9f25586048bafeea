import pytest
import torch
from torch import nn

from ptb.data.batch import Batch
from ptb.training.objective import Objective

CPU = torch.device("cpu")


def test_pairs_go_through_the_model_half_by_half():
    objective = Objective(nn.Linear(3, 2), nn.CosineEmbeddingLoss(), CPU, pairs=True)
    pairs = torch.randn(5, 2, 3)
    embeddings = objective.forward(pairs)
    assert embeddings.shape == (5, 2, 2)
    torch.testing.assert_close(embeddings[:, 1], objective.model(pairs[:, 1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_loss_gets_float32(dtype):
    inside = []
    model = nn.Linear(3, 2)
    model.register_forward_hook(lambda *arguments: inside.append(arguments[-1].dtype))
    assert Objective(model, nn.MSELoss(), CPU, autocast=dtype).forward(torch.ones(4, 3)).dtype == torch.float32
    assert inside == [dtype]


def test_the_mean_of_a_loss_for_each_value():
    scores, batch = torch.randn(4, 3), Batch(torch.randn(4, 3), torch.randn(4, 3))
    mean = Objective(nn.Linear(3, 3), nn.MSELoss(), CPU).mean_loss(scores, batch)
    each = Objective(nn.Linear(3, 3), nn.MSELoss(reduction="none"), CPU).mean_loss(scores, batch)
    assert each.shape == ()
    torch.testing.assert_close(each, mean)


class Weighed(nn.MSELoss):
    def denominator(self, targets):
        return targets.sum()


@pytest.mark.parametrize(
    ("loss", "divisor", "shares"),
    [
        (nn.MSELoss(), 5, [2 / 5, 3 / 5]),
        (nn.MSELoss(reduction="none"), 5, [2 / 5, 3 / 5]),
        (nn.MSELoss(reduction="sum"), None, [1, 1]),
        (Weighed(), 10, [1 / 10, 9 / 10]),
        (Weighed(reduction="none"), 5, [2 / 5, 3 / 5]),
        (Weighed(reduction="sum"), None, [1, 1]),
    ],
    ids=str,
)
def test_what_a_micro_batch_contributes_to_the_mean_of_all(loss, divisor, shares):
    objective = Objective(nn.Linear(1, 1), loss, CPU)
    batches = [Batch(torch.ones(len(each)), torch.tensor(each)) for each in ([0.0, 1.0], [2.0, 3.0, 4.0])]
    found = objective.divisor(batches)
    assert found == divisor
    for batch, share in zip(batches, shares, strict=True):
        assert float(objective.share(torch.tensor(1.0), batch, found)) == pytest.approx(share)
    assert objective.divisor(batches[:1]) is None  # the loss divides by itself


def test_samples_without_any_weight_share_nothing_and_are_no_error():
    objective = Objective(nn.Linear(1, 1), Weighed(), CPU)
    batches = [Batch(torch.ones(2), torch.zeros(2))] * 2
    share = objective.share(torch.tensor(0.0), batches[0], objective.divisor(batches))
    assert float(share) == 0.0


def test_what_is_ignored_is_asked_of_the_loss():
    loss = nn.MSELoss()
    assert Objective(nn.Linear(1, 1), loss, CPU).ignored(torch.ones(2)) is None
    loss.ignored = lambda targets: targets > 1
    assert Objective(nn.Linear(1, 1), loss, CPU).ignored(torch.tensor([1, 2])).tolist() == [False, True]


def test_only_full_training_batches_go_through_the_compiled_model():
    objective, compiled = Objective(nn.Linear(3, 2), nn.MSELoss(), CPU), []
    objective.compiled, objective.compiled_size = (
        lambda inputs: compiled.append(len(inputs)) or objective.model(inputs),
        4,
    )
    for size, training in ((4, True), (3, True), (4, False)):
        objective.model.train(training)
        objective.forward(torch.ones(size, 3))
    assert compiled == [4]
