import math

import pytest
import torch

from ptb import DataSpec

AVERAGED = ("precision", "recall", "f1")
LABELLED = {"class": 5, "binary": 1, "multilabel": 5}
CASES = {
    "accuracy": ("accuracy", "class", 5, {}),
    "accuracy-binary": ("accuracy", "binary", 1, {}),
    "top-k": ("top-k", "class", 5, {"k": 2}),
    "mae": ("mae", "real", 3, {}),
    "rmse": ("rmse", "real", 3, {}),
    "class-report": ("class-report", "class", 5, {}),
    "class-report-binary": ("class-report", "binary", 1, {}),
    **{f"{name}-{kind}": (name, kind, size, {}) for name in AVERAGED for kind, size in LABELLED.items()},
    "f1-micro": ("f1", "multilabel", 5, {"average": "micro"}),
    "roc-auc": ("roc-auc", "class", 5, {}),
    "roc-auc-binary": ("roc-auc", "binary", 1, {}),
    "roc-auc-multilabel": ("roc-auc", "multilabel", 5, {}),
    "r2": ("r2", "real", 3, {}),
    "mean-iou": ("mean-iou", "class", 5, {}),
    "balanced-accuracy": ("balanced-accuracy", "class", 5, {}),
    "balanced-accuracy-binary": ("balanced-accuracy", "binary", 1, {}),
}
IGNORING = {name: case for name, case in CASES.items() if case[1] == "class"}


def parametrized(cases):
    return pytest.mark.parametrize(("name", "target", "size", "settings"), cases.values(), ids=cases)


every_metric = parametrized(CASES)


@pytest.fixture
def make(built_in, name, target, size, settings):
    return lambda: built_in.build("metric", name, DataSpec((4,), "vector", target, size), **settings)


@pytest.fixture
def batches(target, size):
    random = torch.Generator().manual_seed(3)

    def targets(count):
        if target == "class":
            return torch.randint(size, (count,), generator=random)
        values = torch.randn(count, size, generator=random)
        return (values > 0).float() if target in ("binary", "multilabel") else values

    return [(torch.randn(count, size, generator=random), targets(count)) for count in (8, 8, 3)]


def shown(metric, batches):
    for scores, targets in batches:
        metric.update(scores, targets)
    return metric.compute()


@every_metric
def test_batches_count_by_their_samples(make, batches):
    whole = [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]
    assert shown(make(), batches) == pytest.approx(shown(make(), whole), rel=1e-12)
    assert shown(make(), batches) != shown(make(), batches[:2])


@every_metric
def test_compute_changes_nothing_and_reset_forgets(make, batches):
    metric = make()
    shown(metric, batches[:2])
    assert shown(metric, batches[2:]) == shown(make(), batches) == metric.compute()
    metric.reset()
    assert math.isnan(metric.compute())
    assert shown(metric, batches[2:]) == pytest.approx(shown(make(), batches[2:]), abs=0, nan_ok=True)


@every_metric
def test_before_the_first_batch_it_is_not_a_number(make):
    assert math.isnan(make().compute())


@every_metric
def test_it_gives_a_float(make, batches):
    assert type(shown(make(), batches)) is float


@every_metric
@pytest.mark.parametrize("inside", [True, False], ids=["first-inference", "then-inference"])
def test_it_goes_on_across_the_border_of_inference_mode(make, batches, inside):
    metric = make()
    with torch.inference_mode(inside):
        shown(metric, batches[:1])
    with torch.inference_mode(not inside):
        shown(metric, batches[1:])
    assert metric.compute() == shown(make(), batches)
    metric.reset()
    assert shown(metric, batches) == shown(make(), batches)


@every_metric
def test_it_keeps_no_graph(make, batches):
    metric = make()
    with_gradients = [(scores.clone().requires_grad_(), targets) for scores, targets in batches]
    assert shown(metric, with_gradients) == shown(make(), batches)
    held = [value for part in (metric, *vars(metric).values()) for value in getattr(part, "__dict__", {}).values()]
    assert [value for value in held if isinstance(value, torch.Tensor) and value.requires_grad] == []


@every_metric
def test_update_never_waits_for_the_device(make, batches):
    metric = make()
    for scores, targets in batches:
        metric.update(scores.to("meta"), targets.to("meta"))  # raises where a value would have to be known
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        metric.compute()


@parametrized(IGNORING)
@pytest.mark.parametrize("mark", [-100, -1, 5, 255])
def test_a_target_that_is_no_class_is_left_out(make, batches, mark):
    kept = [(scores[targets != 2], targets[targets != 2]) for scores, targets in batches]
    marked = [(scores, torch.where(targets == 2, mark, targets)) for scores, targets in batches]
    assert any(len(scores) < len(all_scores) for (scores, _), (all_scores, _) in zip(kept, batches, strict=True))
    assert shown(make(), marked) == shown(make(), kept)
    nothing = [(scores, torch.full_like(targets, mark)) for scores, targets in batches]
    assert math.isnan(shown(make(), nothing))
