import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ptb.data.batch import Batch
from ptb.training.objective import HIDDEN, Objective, scores_of

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


# Outputs that are a dict.


class Several(nn.Linear):
    """Gives more than scores, not all of it tensors."""

    def forward(self, inputs):
        scores = super().forward(inputs)
        return {
            "scores": scores,
            "loss": scores.square().mean(1),
            "hidden": inputs,
            "note": "text",
            "size": len(inputs),
        }


def test_the_scores_are_among_the_outputs():
    objective = Objective(Several(3, 2), nn.MSELoss(), CPU)
    outputs, batch = objective.forward(torch.ones(4, 3)), Batch(torch.ones(4, 3), torch.zeros(4, 2))
    assert scores_of(outputs) is outputs["scores"]
    assert scores_of(outputs["scores"]) is outputs["scores"]
    assert torch.equal(objective.loss_values(outputs, batch.targets), outputs["scores"].square().mean())
    predictions = objective.predictions(outputs)
    assert torch.equal(predictions, outputs["scores"])
    assert not predictions.requires_grad


@pytest.mark.parametrize("term", [torch.tensor(0.5), torch.tensor([0.25, 0.75])], ids=["scalar", "each sample"])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 3.0])], ids=["plain", "weighted"])
def test_a_term_of_the_model_is_added_to_the_loss(term, weights):
    objective = Objective(nn.Linear(1, 1), nn.MSELoss(reduction="none"), CPU)
    scores, batch = torch.tensor([[1.0], [2.0]]), Batch(torch.ones(2, 1), torch.zeros(2, 1), weights)
    loss = objective.mean_loss({"scores": scores}, batch)
    assert float(objective.mean_loss({"scores": scores, "loss": term}, batch)) == pytest.approx(float(loss) + 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_loss_gets_every_output_in_float32(dtype):
    outputs = Objective(Several(3, 2), nn.MSELoss(), CPU, autocast=dtype).forward(torch.ones(4, 3))
    assert {each.dtype for each in outputs.values() if isinstance(each, torch.Tensor)} == {torch.float32}
    assert (outputs["note"], outputs["size"]) == ("text", 4)


def test_outputs_for_pairs_are_pairs():
    pairs = torch.randn(5, 2, 3)
    outputs = Objective(Several(3, 2), nn.MSELoss(), CPU, pairs=True).forward(pairs)
    assert torch.equal(outputs["hidden"], pairs)
    assert (outputs["scores"].shape, outputs["loss"].shape) == ((5, 2, 2), (5, 2))


class TakesOutputs(nn.Module):
    def forward(self, scores, targets, *, outputs):
        return outputs["hidden"].sum()


class CallableTakesOutputs:
    def __call__(self, scores, targets, outputs=None):
        return outputs["hidden"].sum()


@pytest.mark.parametrize(
    "loss",
    [TakesOutputs(), CallableTakesOutputs(), lambda scores, targets, outputs: outputs["hidden"].sum()],
    ids=["module", "callable", "function"],
)
def test_a_loss_that_takes_outputs_gets_all_of_them(loss):
    outputs = {"scores": torch.zeros(2, 1), "hidden": torch.ones(2, 3)}
    assert Objective(nn.Linear(1, 1), loss, CPU).loss_values(outputs, torch.zeros(2, 1)) == 6.0


def test_a_loss_that_shows_no_parameters_gets_scores_and_targets():
    assert Objective(nn.Linear(1, 1), torch.sub, CPU).loss_values(torch.ones(2), torch.ones(2)).tolist() == [0.0, 0.0]


def test_a_model_of_several_inputs_gets_the_dict_of_them():
    class Fields(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs["inputs"]) + inputs["table"]

    inputs, seen = {"inputs": torch.ones(4, 3), "table": torch.ones(4, 2)}, []
    objective = Objective(Fields(3, 2), nn.MSELoss(), CPU)
    assert objective.forward(inputs).shape == (4, 2)
    objective.compiled, objective.compiled_size = lambda inputs: seen.append(inputs) or objective.model(inputs), 4
    objective.forward(inputs)
    assert seen == [inputs]


def test_predictions_are_what_the_loss_makes_of_the_scores():
    loss = nn.MSELoss()
    loss.predictions = lambda scores: scores[:, :1] * torch.ones(1, requires_grad=True)
    found = Objective(nn.Linear(1, 2), loss, CPU).predictions({"scores": torch.ones(3, 2, requires_grad=True)})
    assert found.tolist() == [[1.0]] * 3
    assert not found.requires_grad


# Weights of samples, and positions that do not count.


class Values:
    """A loss that gives what it is told, for each sample or element, and leaves out targets of -1."""

    def __init__(self, reduction):
        self.reduction = reduction

    def __call__(self, scores, targets):
        return torch.where(targets == -1, 0.0, scores)

    def ignored(self, targets):
        return targets == -1


ELEMENT = st.tuples(st.floats(0, 9, width=16), st.integers(-1, 1))  # loss and target


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.tuples(st.floats(0, 9, width=16), st.integers(-1, 1)), min_size=3, max_size=3),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=6,
    ),
    cut=st.integers(0, 6),
)
@settings(deadline=None)
def test_the_mean_is_one_over_the_samples_that_count_by_their_weights(positions, weighted, rows, cut):
    if not positions:
        rows = [(row[:1], weight) for row, weight in rows]
    # By hand: of each sample the mean over what counts, then the weighted mean of the samples that have any.
    means = [[loss for loss, target in row if target >= 0] for row, _ in rows]
    counted = [
        (sum(mean) / len(mean), weight if weighted else 1)
        for mean, (_, weight) in zip(means, rows, strict=True)
        if mean
    ]
    whole = sum(weight for _, weight in counted)
    wanted = sum(mean * weight for mean, weight in counted) / whole if whole else 0.0

    scores = torch.tensor([[loss for loss, _ in row] for row, _ in rows])
    targets = torch.tensor([[target for _, target in row] for row, _ in rows])
    if positions:
        targets = torch.where((targets == -1) & (torch.arange(3) == 1), HIDDEN, targets)  # two ways to leave out
        scores = torch.where(targets == HIDDEN, 0.0, scores)
    else:
        scores, targets = scores[:, 0], targets[:, 0]
    weights = torch.tensor([float(weight) for _, weight in rows]) if weighted else None
    objective = Objective(nn.Linear(1, 1), Values("none"), CPU, positions=positions)
    batch = Batch(scores, targets, weights)
    assert float(objective.mean_loss(scores, batch)) == pytest.approx(wanted, rel=1e-5)
    assert float(objective.denominator(batch.targets, batch.weights)) == pytest.approx(whole)

    parts = [batch.map(lambda tensor, part=part: tensor[part]) for part in (slice(0, cut), slice(cut, None))]
    parts = [part for part in parts if part.size]
    divisor = objective.divisor(parts)
    shares = [objective.share(objective.mean_loss(part.inputs, part), part, divisor) for part in parts]
    assert float(sum(shares)) == pytest.approx(wanted, rel=1e-5)


def test_weighted_losses_that_sum_are_a_weighted_sum():
    scores, weights = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 2.0, 0.5])
    objective = Objective(nn.Linear(1, 1), Values("sum"), CPU)
    assert float(objective.mean_loss(scores, Batch(scores, torch.zeros(3), weights))) == 6.0


def test_the_loss_of_a_sample_is_the_mean_over_its_elements_that_count():
    objective = Objective(nn.Linear(1, 1), Values("none"), CPU, positions=True)
    loss = torch.tensor([[3.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    targets = torch.tensor([[1, HIDDEN, -1], [0, 1, 1]])
    assert objective.by_sample(loss, targets).tolist() == [3.0, 2.0]
    wide = Objective(nn.Linear(1, 1), nn.MSELoss(reduction="none"), CPU)
    assert wide.by_sample(loss, torch.zeros(2, 3)).tolist() == [1.0, 2.0]
    assert wide.by_sample(torch.tensor([1.0, 5.0]), torch.zeros(2)).tolist() == [1.0, 5.0]


def test_hidden_positions_count_for_nothing():
    targets = torch.tensor([[0, 1, HIDDEN], [HIDDEN, HIDDEN, HIDDEN]])
    batch = Batch(targets, targets)
    hidden = Objective(nn.Linear(1, 1), nn.CrossEntropyLoss(), CPU, positions=True)
    assert hidden.ignored(targets).tolist() == (targets == HIDDEN).tolist()
    assert int(hidden.denominator(batch.targets)) == 2
    assert hidden.divisor([batch, batch]) == 4.0
    more = Objective(nn.Linear(1, 1), Values("none"), CPU, positions=True)
    assert more.ignored(torch.tensor([[0, -1, HIDDEN]])).tolist() == [[False, True, True]]
    assert hidden.divisor([Batch(targets[1:], targets[1:])] * 2) > 0  # nothing counts, and nothing is divided by 0
