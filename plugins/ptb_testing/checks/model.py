"""What a model owes: scores of the right form for every spec that it takes, gradients, and a state that is whole."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb.internals import Objective, generator, listing, model_state, seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.in_a_run import fits_a_run, state_survives_a_checkpoint
from ptb_testing.checks.support import check_taken, on_each, on_other_device, other_device, refusals, unchanged
from ptb_testing.outcome import CheckFailed
from ptb_testing.process import Snapshot, identical
from ptb_testing.samples import LARGE_FORMS, described, inputs_of, position_specs, specs
from ptb_testing.trial import CPU, Trial

SHAKES = 16


def build(case: Case) -> list[DataSpec]:
    """The specs that it takes: all that are given, else some of the kit's.

    Large pictures if it takes no small ones, targets at each position if it takes no others.
    """
    refused: dict[str, str] = {}
    taken = _taken(case, case.specs or list(specs()), refused)
    if not case.specs and not any(spec.inputs == "image" for spec in taken):
        taken += _taken(case, list(specs(LARGE_FORMS)), refused)
    taken = taken or _taken(case, position_specs(), refused)
    check_taken(case, taken, refused)
    return taken


def use(case: Case) -> Any:
    """Its first weights, and its scores in eval mode."""
    spec = case.built[0]
    model = case.build(spec)
    return {**model_state(model), "the scores": _scorer(model.eval(), spec)(inputs_of(spec))}


def trials(case: Case) -> Iterator[tuple[str, Trial]]:
    """A run on samples of each spec."""
    for spec in case.built:
        yield described(spec), Trial.of(case, spec)


def one_of_each_form(case: Case) -> list[DataSpec]:
    """Of the specs that it takes, the first of each form of inputs."""
    return list({(spec.inputs, spec.input_shape): spec for spec in reversed(case.built)}.values())[::-1]


def least_unusual(case: Case) -> list[DataSpec]:
    """One spec; pairs only where it takes nothing else."""
    return [min(case.built, key=lambda spec: spec.target == "similarity")]


@on_each(described, one_of_each_form)
def eval_mode_is_a_function(case: Case, spec: DataSpec) -> None:
    """In eval mode it gives the same scores for the same inputs, and draws nothing."""
    scorer, inputs = _scorer(_model(case, spec).eval(), spec), inputs_of(spec)
    before = Snapshot.take()
    if not identical(scorer(inputs), scorer(inputs)):
        raise CheckFailed("two forward passes in eval mode differ: draw in training mode only, as nn.Dropout does")
    if moved := before.moved_generators(Snapshot.take()):
        raise CheckFailed(f"a forward pass in eval mode draws from the global generator of {listing(moved)}")


@on_each(described, least_unusual)
def scores_are_raw(case: Case, spec: DataSpec) -> None:
    """Whatever the weights, no final activation keeps the scores from falling below 0 and rising above 1."""
    model = _model(case, spec).eval()
    scorer, source = _scorer(model, spec), generator(0, "shakes")
    lowest, highest = torch.inf, -torch.inf
    for _ in range(SHAKES):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=source).to(parameter.dtype))
        scores = scorer(inputs_of(spec))
        scores = scores[torch.isfinite(scores)]
        if scores.numel():
            lowest, highest = min(lowest, float(scores.min())), max(highest, float(scores.max()))
        if lowest < 0 and highest > 1:
            return
    raise CheckFailed(
        f"with {SHAKES} different weights its scores stayed within [{lowest:.3g}, {highest:.3g}]: leave out the "
        "sigmoid, softmax or other function after the last layer; the loss applies what it needs"
    )


@on_each(described, one_of_each_form)
def samples_do_not_mix(case: Case, spec: DataSpec) -> None:
    """In eval mode the scores of a sample do not depend on the others in its batch."""
    scorer, inputs = _scorer(_model(case, spec).eval(), spec), inputs_of(spec)
    together, alone = scorer(inputs), torch.cat(list(map(scorer, torch.split(inputs, 1))))
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        most = float((together - alone).abs().max())
        raise CheckFailed(f"a sample's scores change by up to {most:.3g} with the other samples of its batch")


@on_each(described, one_of_each_form)
def inputs_are_left_alone(case: Case, spec: DataSpec) -> None:
    """A forward pass does not change its inputs, in training mode nor in eval mode."""
    model, inputs = _model(case, spec), inputs_of(spec)
    for training in (True, False):
        with unchanged(inputs=inputs):
            _scorer(model.train(training), spec)(inputs)


@on_each(described, one_of_each_form)
def moves_to_a_device(case: Case, spec: DataSpec) -> str:
    """Moved to another device it takes inputs of that device: nothing stays behind."""
    device = other_device()
    model = _model(case, spec).eval()
    with on_other_device(device):
        _scorer(model.to(device), spec)(inputs_of(spec).to(device))
    return f"tried on {device}"


KIT = Kit(
    checks=(
        *common.CHECKS,
        fits_a_run,
        eval_mode_is_a_function,
        scores_are_raw,
        samples_do_not_mix,
        inputs_are_left_alone,
        state_survives_a_checkpoint,
        moves_to_a_device,
    ),
    gates=(fits_a_run, eval_mode_is_a_function),
    optional=(moves_to_a_device,),
    build=build,
    use=use,
    trials=trials,
    may_draw=True,
)


def _taken(case: Case, tried: Sequence[DataSpec], refused: dict[str, str]) -> list[DataSpec]:
    taken = []
    for spec in tried:
        with refusals(described(spec), refused):
            model = case.build(spec)
            if not isinstance(model, nn.Module):
                raise CheckFailed(f"it gives a {type(model).__name__}; the core needs a torch.nn.Module")
            taken.append(spec)
    return taken


def _model(case: Case, spec: DataSpec) -> nn.Module:
    seed_global(0, "model")
    return case.build(spec)  # type: ignore[no-any-return]  # build has seen that it is one


def _scorer(model: nn.Module, spec: DataSpec) -> Callable[[Tensor], Tensor]:
    """The forward pass as a run takes it: of a pair, both halves are embedded by the one model."""
    objective = Objective(model, lambda scores, targets: scores, CPU, pairs=spec.target == "similarity")
    return torch.no_grad()(objective.forward)
