"""What a model owes: scores of the right form for every spec that it takes, gradients, and a state that is whole."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb.internals import Objective, generator, listing, map_leaves, model_state, scores_of, seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.support import at, on_each, on_other_device, other_device, unchanged
from ptb_testing.outcome import CheckFailed
from ptb_testing.process import Snapshot, identical
from ptb_testing.samples import BATCH, FORMS, LARGE, SIZES, described, inputs_of, spec_of, unusual_specs
from ptb_testing.trial import CPU, STOPS, Trial

SHAKES = 16


def trials(case: Case) -> Iterator[Trial]:
    """Classes of every form of inputs, then every kind of targets of the first form that it takes, not stopped.

    What few models are made for comes where it takes nothing else: large pictures, further inputs, targets at each
    position, and no targets.
    """
    for spec in case.specs or [spec_of(form, "class") for form in FORMS]:
        yield _trial(case, spec)
    if case.specs:
        return
    if not any(trial.spec.inputs == "image" for trial in case.tried):
        yield _trial(case, spec_of(LARGE, "class"))
    taken = [trial.spec.all_inputs()["inputs"] for trial in case.tried][:1]
    for form in taken or FORMS:
        for target in SIZES:
            if target not in ("class", "none"):
                yield _trial(case, spec_of(form, target), stops=() if taken else STOPS)
    for spec in itertools.chain.from_iterable(map(unusual_specs, FORMS)):
        if not case.tried:
            yield _trial(case, spec)


def use(case: Case) -> Any:
    """Its first weights, and its scores in eval mode."""
    spec = case.tried[0].spec
    model = case.build(spec)
    return {**model_state(model), "the scores": _scorer(model.eval(), spec)(inputs_of(spec))}


def one_of_each_form(case: Case) -> list[Trial]:
    """Of the runs that it takes, the first of each form of inputs."""
    runs = reversed(case.tried)
    return list({(trial.spec.inputs, trial.spec.input_shape): trial for trial in runs}.values())[::-1]


def least_unusual(case: Case) -> list[Trial]:
    """One run; pairs only where it takes nothing else."""
    return [min(case.tried, key=lambda trial: trial.spec.target == "similarity")]


@on_each(one_of_each_form)
def eval_mode_is_a_function(case: Case, trial: Trial) -> None:
    """In eval mode it gives the same scores for the same inputs, and uses no random numbers."""
    scorer, inputs = _scorer(_model(case, trial).eval(), trial.spec), inputs_of(trial.spec)
    before = Snapshot.take()
    if not identical(scorer(inputs), scorer(inputs)):
        raise CheckFailed("two forward passes in eval mode differ: draw in training mode only, as nn.Dropout does")
    if moved := before.moved_generators(Snapshot.take()):
        raise CheckFailed(f"a forward pass in eval mode draws from the global generator of {listing(moved)}")


@on_each(least_unusual)
def scores_are_raw(case: Case, trial: Trial) -> None:
    """Whatever the weights, no final activation keeps the scores from falling below 0 and rising above 1."""
    model = _model(case, trial).eval()
    scorer, source = _scorer(model, trial.spec), generator(0, "shakes")
    lowest, highest = torch.inf, -torch.inf
    for _ in range(SHAKES):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=source).to(parameter.dtype))
        scores = scorer(inputs_of(trial.spec))
        scores = scores[torch.isfinite(scores)]
        if scores.numel():
            lowest, highest = min(lowest, float(scores.min())), max(highest, float(scores.max()))
        if lowest < 0 and highest > 1:
            return
    raise CheckFailed(
        f"with {SHAKES} different weights its scores stayed within [{lowest:.3g}, {highest:.3g}]: leave out the "
        "sigmoid, softmax or other function after the last layer; the loss applies what it needs"
    )


@on_each(one_of_each_form)
def samples_do_not_mix(case: Case, trial: Trial) -> None:
    """In eval mode the scores of a sample do not depend on the others in its batch."""
    scorer, inputs = _scorer(_model(case, trial).eval(), trial.spec), inputs_of(trial.spec)
    alone = torch.cat([scorer(at(slice(place, place + 1), inputs)) for place in range(BATCH)])
    together = scorer(inputs)
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        most = float((together - alone).abs().max())
        raise CheckFailed(f"a sample's scores change by up to {most:.3g} with the other samples of its batch")


@on_each(one_of_each_form)
def inputs_are_left_alone(case: Case, trial: Trial) -> None:
    """A forward pass does not change its inputs, in training mode nor in eval mode."""
    model, inputs = _model(case, trial), inputs_of(trial.spec)
    for training in (True, False):
        with unchanged(inputs=inputs):
            _scorer(model.train(training), trial.spec)(inputs)


@on_each(one_of_each_form)
def moves_to_a_device(case: Case, trial: Trial) -> str:
    """Moved to another device it takes inputs of that device: nothing stays behind."""
    device = other_device()
    model = _model(case, trial).eval()
    with on_other_device(device):
        _scorer(model.to(device), trial.spec)(map_leaves(lambda each: each.to(device), inputs_of(trial.spec)))
    return f"tried on {device}"


OWN = (eval_mode_is_a_function, scores_are_raw, samples_do_not_mix, inputs_are_left_alone, moves_to_a_device)
KIT = Kit(
    checks=(*common.CHECKS, *OWN),
    optional=(moves_to_a_device,),
    notes=OWN,
    trials=trials,
    use=use,
    may_draw=True,
)


def _trial(case: Case, spec: DataSpec, stops: tuple[int, ...] = STOPS) -> Trial:
    return Trial.of(case, described(spec), spec, stops=stops)


def _model(case: Case, trial: Trial) -> nn.Module:
    seed_global(0, "model")
    return case.build(trial.spec)  # type: ignore[no-any-return]  # a run has seen that it is one


def _scorer(model: nn.Module, spec: DataSpec) -> Callable[[Any], Tensor]:
    """The forward pass as a run takes it: of a pair, both halves are embedded by the one model."""
    objective = Objective(model, lambda scores, targets: scores, CPU, pairs=spec.target == "similarity")
    return torch.no_grad()(lambda inputs: scores_of(objective.forward(inputs)))
