import inspect
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from ptb import ConfigError, DataSpec, load_registry

REGISTRY = load_registry()
ENTRIES = [entry for entry in REGISTRY.components("metric") if entry.plugin == "ptb-torchmetrics"]
every_component = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
SIZES = {"class": 4, "binary": 1, "real": 1, "dimensions": 3, "distribution": 4, "similarity": 5}


# What each figure should be, from arrays of scores and targets: nothing here uses torchmetrics.


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores[:, 0]))


def predicted(scores):
    return scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)


def labels(figure, **settings):
    return lambda scores, targets: figure(targets.reshape(-1), predicted(scores), **settings)


def one_against_rest(figure, average):
    def of(scores, targets):
        figures = [figure(targets == c, softmax(scores)[:, c]) for c in range(scores.shape[1])]
        return np.average(figures, weights=np.bincount(targets) if average == "weighted" else None)

    return of


def specificity(true, told):
    confusion = sk.confusion_matrix(true, told)
    others = len(true) - confusion.sum(axis=1)
    figures = (others - confusion.sum(axis=0) + confusion.diagonal()) / others
    return figures[1] if len(confusion) == 2 else figures.mean()


def calibration(confidence, came_true, bins=15, norm="l1"):
    where = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps, weights = [], []
    for b in np.unique(where):
        gaps.append(abs(confidence[where == b].mean() - came_true[where == b].mean()))
        weights.append((where == b).mean())
    gaps, weights = np.array(gaps), np.array(weights)
    return {"l1": (gaps * weights).sum(), "l2": math.sqrt((gaps**2 * weights).sum()), "max": gaps.max()}[norm]


def top_calibration(scores, targets, **settings):
    return calibration(softmax(scores).max(axis=1), predicted(scores) == targets, **settings)


def binary_calibration(scores, targets, **settings):
    return calibration(sigmoid(scores), targets[:, 0], **settings)


def cosine(scores):
    first, second = scores[:, 0], scores[:, 1]
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def by_dimension(figure):
    return lambda scores, targets: np.mean([figure(x, y) for x, y in zip(scores.T, targets.T, strict=True)])


def concordance(x, y):
    return 2 * np.cov(x, y)[0, 1] / (np.var(x, ddof=1) + np.var(y, ddof=1) + (x.mean() - y.mean()) ** 2)


def swapped(figure, **settings):
    return lambda scores, targets: figure(targets, scores, **settings)


def divergence(scores, targets):
    return stats.entropy(targets, softmax(scores), axis=1).mean()


CASES = {
    "auroc": ("auroc", "class", {}, one_against_rest(sk.roc_auc_score, "macro")),
    "auroc-weighted": ("auroc", "class", {"average": "weighted"}, one_against_rest(sk.roc_auc_score, "weighted")),
    "auroc-binary": ("auroc", "binary", {}, lambda s, t: sk.roc_auc_score(t[:, 0], s[:, 0])),
    "auroc-similarity": ("auroc", "similarity", {}, lambda s, t: sk.roc_auc_score(t > 0, cosine(s))),
    "ap": ("average-precision", "class", {}, one_against_rest(sk.average_precision_score, "macro")),
    "ap-binary": ("average-precision", "binary", {}, lambda s, t: sk.average_precision_score(t[:, 0], s[:, 0])),
    "ap-similarity": ("average-precision", "similarity", {}, lambda s, t: sk.average_precision_score(t > 0, cosine(s))),
    "f1": ("f1", "class", {}, labels(sk.f1_score, average="macro")),
    "f1-micro": ("f1", "class", {"average": "micro"}, labels(sk.f1_score, average="micro")),
    "f1-weighted": ("f1", "class", {"average": "weighted"}, labels(sk.f1_score, average="weighted")),
    "f1-binary": ("f1", "binary", {}, labels(sk.f1_score)),
    "f1-binary-macro": ("f1", "binary", {"average": "macro"}, labels(sk.f1_score, average="macro")),
    "precision": ("precision", "class", {}, labels(sk.precision_score, average="macro")),
    "precision-binary": ("precision", "binary", {}, labels(sk.precision_score)),
    "recall": ("recall", "class", {}, labels(sk.recall_score, average="macro")),
    "recall-binary": ("recall", "binary", {}, labels(sk.recall_score)),
    "specificity": ("specificity", "class", {}, labels(specificity)),
    "specificity-binary": ("specificity", "binary", {}, labels(specificity)),
    "jaccard": ("jaccard", "class", {}, labels(sk.jaccard_score, average="macro")),
    "jaccard-binary": ("jaccard", "binary", {}, labels(sk.jaccard_score)),
    "calibration": ("calibration-error", "class", {}, top_calibration),
    "calibration-l2": ("calibration-error", "class", {"norm": "l2"}, partial(top_calibration, norm="l2")),
    "calibration-binary": (
        "calibration-error",
        "binary",
        {"bins": 4, "norm": "max"},
        partial(binary_calibration, bins=4, norm="max"),
    ),
    "kappa": ("cohen-kappa", "class", {}, labels(sk.cohen_kappa_score)),
    "kappa-linear": ("cohen-kappa", "class", {"weights": "linear"}, labels(sk.cohen_kappa_score, weights="linear")),
    "kappa-binary": ("cohen-kappa", "binary", {}, labels(sk.cohen_kappa_score)),
    "matthews": ("matthews-corrcoef", "class", {}, labels(sk.matthews_corrcoef)),
    "matthews-binary": ("matthews-corrcoef", "binary", {}, labels(sk.matthews_corrcoef)),
    "r2": ("r2", "real", {}, swapped(sk.r2_score)),
    "r2-dimensions": ("r2", "dimensions", {}, swapped(sk.r2_score)),
    "explained": ("explained-variance", "real", {}, swapped(sk.explained_variance_score)),
    "explained-dimensions": (
        "explained-variance",
        "dimensions",
        {"multioutput": "variance_weighted"},
        swapped(sk.explained_variance_score, multioutput="variance_weighted"),
    ),
    "pearson": ("pearson", "real", {}, by_dimension(lambda x, y: stats.pearsonr(x, y)[0])),
    "pearson-dimensions": ("pearson", "dimensions", {}, by_dimension(lambda x, y: stats.pearsonr(x, y)[0])),
    "spearman": ("spearman", "real", {}, by_dimension(lambda x, y: stats.spearmanr(x, y)[0])),
    "spearman-dimensions": ("spearman", "dimensions", {}, by_dimension(lambda x, y: stats.spearmanr(x, y)[0])),
    "concordance": ("concordance", "real", {}, by_dimension(concordance)),
    "concordance-dimensions": ("concordance", "dimensions", {}, by_dimension(concordance)),
    "kl": ("kl-divergence", "distribution", {}, divergence),
}


def parametrized(*targets, without=""):
    cases = {label: case for label, case in CASES.items() if case[1] in targets and label != without}
    return pytest.mark.parametrize(("name", "target", "settings", "reference"), cases.values(), ids=cases)


every_metric = parametrized(*SIZES)


def make(name, target, settings=()):
    spec = DataSpec((4,), "vector", {"dimensions": "real"}.get(target, target), SIZES[target])
    return REGISTRY.build("metric", f"ptb-torchmetrics:{name}", spec, **dict(settings))


def batches(target, sizes=(32, 32, 7)):
    """Scores that know something of the targets, as ptb gives them."""
    random = torch.Generator().manual_seed(5)
    size = SIZES[target]
    for count in sizes:
        scores = torch.randn(count, size, generator=random)
        if target == "class":
            targets = torch.randint(size, (count,), generator=random)
            yield scores + 2 * torch.nn.functional.one_hot(targets, size), targets
        elif target == "binary":
            targets = torch.randint(2, (count, 1), generator=random).float()
            yield scores + 2 * targets - 1, targets
        elif target == "distribution":
            yield scores, torch.randn(count, size, generator=random).softmax(dim=1)
        elif target == "similarity":
            targets = torch.randint(2, (count,), generator=random) * 2.0 - 1
            yield (
                torch.stack((scores, scores * targets[:, None] + torch.randn(count, size, generator=random)), 1),
                targets,
            )
        else:
            yield scores, 150 + 2 * scores + torch.randn(count, size, generator=random)


def shown(metric, batches):
    for scores, targets in batches:
        metric.update(scores, targets)
    return metric.compute()


def expected(reference, batches):
    scores, targets = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    return reference(scores.astype(float), targets)


@every_metric
def test_the_figure_is_that_of_an_independent_computation(name, target, settings, reference):
    figure = shown(make(name, target, settings), batches(target))
    assert type(figure) is float
    assert figure == pytest.approx(expected(reference, batches(target)), rel=1e-6)


@parametrized("class", "binary", without="matthews-binary")  # all are predicted 1: see below
def test_logits_that_could_be_probabilities_are_not_taken_for_them(name, target, settings, reference):
    between = [((scores / 40 + 0.5).clamp(0.01, 0.99), targets) for scores, targets in batches(target)]
    assert shown(make(name, target, settings), between) == pytest.approx(expected(reference, between), rel=1e-5)


@pytest.mark.parametrize("target", ["class", "binary"])
def test_samples_told_with_great_confidence_still_rank(target):
    confident = [(scores / 2 + 20, targets) for scores, targets in batches("binary")]
    assert all((scores.sigmoid() == 1).all() for scores, _ in confident)  # in single precision all are alike
    if target == "class":
        confident = [(torch.cat((-scores, scores), dim=1) / 2, targets[:, 0].long()) for scores, targets in confident]
    scores, targets = (torch.cat(parts) for parts in zip(*confident, strict=True))
    metric = REGISTRY.build("metric", "auroc", DataSpec((4,), "vector", target, scores.shape[1]))
    assert shown(metric, confident) == pytest.approx(sk.roc_auc_score(targets.flatten(), scores[:, -1]), rel=1e-6)


def test_pairs_that_are_the_same_do_not_leave_the_range_of_probabilities():
    random = torch.Generator().manual_seed(0)
    same = torch.randn(64, 1, 5, generator=random).expand(-1, 2, -1)
    other = torch.randn(64, 2, 5, generator=random)
    assert shown(make("auroc", "similarity"), [(same, torch.ones(64)), (other, -torch.ones(64))]) == 1


def test_cosines_that_could_be_probabilities_are_not_taken_for_them():
    def pair(cosine):
        return torch.tensor([[1.0, 0, 0, 0, 0], [cosine, math.sqrt(1 - cosine**2), 0, 0, 0]])

    above_zero = torch.stack((pair(0.69), pair(0.8))), torch.tensor([-1.0, 1])
    around_zero = torch.stack((pair(-0.9), pair(0.7))), torch.tensor([-1.0, 1])
    assert shown(make("auroc", "similarity"), [above_zero, around_zero]) == 1


@pytest.mark.parametrize("target", ["class", "binary", "similarity"])
def test_a_curve_of_few_points_is_near_the_whole_one(target):
    many = list(batches(target, (500, 500)))
    exact = shown(make("auroc", target), many)
    coarse = shown(make("auroc", target, {"thresholds": 50}), many)
    assert exact != coarse == pytest.approx(exact, abs=0.01)


def test_a_coarse_curve_keeps_no_scores():
    metric = make("auroc", "binary", {"thresholds": 50})
    shown(metric, batches("binary"))
    assert sum(state.numel() for state in metric.metric.metric_state.values()) == 50 * 4


@parametrized("class")
@pytest.mark.parametrize("mark", [-100, 4])
def test_a_target_that_is_no_class_is_left_out(name, target, settings, reference, mark):
    marked = [(scores, torch.where(scores[:, 0] > 1.5, mark, targets)) for scores, targets in batches(target)]
    kept = [(scores[targets != mark], targets[targets != mark]) for scores, targets in marked]
    assert 0 < sum(map(len, (t for _, t in kept))) < sum(map(len, (t for _, t in marked)))
    assert shown(make(name, target, settings), marked) == pytest.approx(expected(reference, kept), rel=1e-6)
    nothing = [(scores, torch.full_like(targets, mark)) for scores, targets in batches(target)]
    assert math.isnan(shown(make(name, target, settings), nothing))


@every_metric
def test_it_is_no_number_before_the_first_batch_and_after_a_reset(name, target, settings, reference):
    metric = make(name, target, settings)
    assert math.isnan(metric.compute())
    figure = shown(metric, batches(target))
    metric.reset()
    assert math.isnan(metric.compute())
    assert shown(metric, batches(target)) == figure


@parametrized("real", "dimensions")
def test_one_sample_has_no_variance(name, target, settings, reference):
    metric = make(name, target, settings)
    assert math.isnan(shown(metric, batches(target, [1])))
    assert math.isfinite(shown(metric, batches(target, [9])))


@every_metric
@pytest.mark.parametrize("inside", [True, False], ids=["first-inference", "then-inference"])
def test_it_goes_on_across_the_border_of_inference_mode(name, target, settings, reference, inside):
    metric = make(name, target, settings)
    first, *rest = batches(target)
    with torch.inference_mode(inside):
        metric.reset()
        shown(metric, [first])
    with torch.inference_mode(not inside):
        shown(metric, rest)
    assert metric.compute() == shown(make(name, target, settings), batches(target))


@every_metric
def test_it_keeps_no_graph(name, target, settings, reference):
    metric = make(name, target, settings)
    shown(metric, [(scores.requires_grad_(), targets) for scores, targets in batches(target)])
    states = [
        s for state in metric.metric.metric_state.values() for s in (state if isinstance(state, list) else [state])
    ]
    assert states
    assert not any(state.requires_grad for state in states)


@parametrized("class", "binary", "real", "distribution")
def test_scores_that_are_no_numbers_stop_nothing(name, target, settings, reference):
    metric = make(name, target, settings)
    with pytest.MonkeyPatch.context() as patch:  # torchmetrics may warn of them: the loss is what ends the run
        patch.setattr("warnings.warn", lambda *_, **__: None)
        shown(metric, [(torch.full_like(scores, math.nan), targets) for scores, targets in batches(target)])


def test_a_module_moves_with_its_metric():
    metric = make("f1", "class").to("meta")
    assert {state.device.type for state in metric.metric.metric_state.values()} == {"meta"}


# Where torchmetrics decides by itself: the README tells of each.


def absent_class():
    """Three samples of the first two of four classes, told right; the last class scores lowest."""
    return [(torch.eye(4)[:2].repeat(2, 1)[:3] * 4 - torch.tensor([0.0, 0, 1, 2]), torch.tensor([0, 1, 0]))]


@pytest.mark.parametrize("name", ["f1", "precision", "recall", "jaccard"])
def test_a_class_neither_there_nor_predicted_is_left_out_of_the_average(name):
    assert shown(make(name, "class"), absent_class()) == 1
    report = REGISTRY.build("metric", "class-report", DataSpec((4,), "vector", "class", 4))
    assert shown(report, absent_class()) == 1


def test_a_class_without_samples_counts_0_in_auroc_and_not_in_average_precision():
    with pytest.warns(UserWarning, match="No positive samples"):
        assert shown(make("auroc", "class"), absent_class()) == 0.5
    with pytest.warns(UserWarning, match="Ignoring these classes"):
        assert shown(make("average-precision", "class"), absent_class()) == 1
    with pytest.warns(UserWarning, match="No negative samples"):
        assert shown(make("auroc", "binary"), [(torch.randn(4, 1), torch.ones(4, 1))]) == 0


def test_matthews_of_a_binary_target_told_all_alike_is_near_0_but_not_0():
    alike = [(scores.abs(), targets) for scores, targets in batches("binary")]
    assert 0 != shown(make("matthews-corrcoef", "binary"), alike) == pytest.approx(0, abs=0.1)


def test_sums_of_squares_below_a_ten_thousandth_are_zero_to_r2():
    small = [(scores / 1e4, targets / 1e4) for scores, targets in batches("real")]
    figure = expected(swapped(sk.r2_score), small)
    assert shown(make("r2", "real"), small) != pytest.approx(figure, abs=0.1)
    assert shown(make("explained-variance", "real"), small) == pytest.approx(
        expected(swapped(sk.explained_variance_score), small), rel=1e-6
    )


def test_the_cases_cover_every_component_and_every_target_kind_that_it_accepts():
    covered = {(name, {"dimensions": "real"}.get(target, target)) for name, target, _, _ in CASES.values()}
    assert covered == {(entry.name, kind) for entry in ENTRIES for kind in entry.component.accepts}


@every_component
def test_settings_and_target_have_the_same_names_and_defaults(entry):
    parameters = list(inspect.signature(entry.load()).parameters.values())[1:]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    fields = entry.settings_model().model_fields
    assert {p.name: p.default for p in parameters} == {name: field.default for name, field in fields.items()}
    assert all(field.description for field in fields.values())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("auroc", {"thresholds": 1}),
        ("auroc", {"average": "micro"}),
        ("f1", {"average": "none"}),
        ("calibration-error", {"bins": 0}),
        ("calibration-error", {"norm": "l3"}),
        ("cohen-kappa", {"weights": "cubic"}),
        ("pearson", {"average": "macro"}),
        ("r2", {"multioutput": "raw_values"}),
    ],
)
def test_settings_that_no_figure_comes_from_are_refused(name, settings):
    (setting,) = settings
    with pytest.raises(ConfigError, match=f"metric.{setting}"):
        make(name, "class", settings)


def test_hooks_and_settings_import_neither_torch_nor_torchmetrics():
    code = "import sys, ptb_torchmetrics.settings; print({'torch', 'torchmetrics'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
