"""What a model owes: scores of the right form for every spec that it takes, gradients, and a state that is whole."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptb.data.spec import DataSpec
from ptb.errors import StorageError, listing
from ptb.seeding import generator, seed_global
from ptb.storage.checkpoint import model_state
from ptb_testing.case import Case, Kit
from ptb_testing.checks.support import all_given, nothing_fits, on, on_other_device, other_device, refusals, unchanged
from ptb_testing.outcome import CheckFailed
from ptb_testing.samples import (
    LARGE_FORMS,
    described,
    forward,
    inputs_of,
    specs,
    targets_of,
    usual_loss,
)
from ptb_testing.state import differences, generators, identical

SHAKES = 16


def build(case: Case) -> list[DataSpec]:
    """The specs that it takes: all that are given, else some of the kit's; large pictures if it takes no small ones."""
    refused: dict[str, str] = {}
    if case.specs:
        return all_given(_taken(case, case.specs, refused), refused)
    taken = _taken(case, list(specs()), refused)
    if not any(spec.inputs == "image" for spec in taken):
        taken += _taken(case, list(specs(LARGE_FORMS)), refused)
    if not taken:
        raise nothing_fits(refused)
    return taken


def use(case: Case) -> Any:
    """Its first weights, and its scores in eval mode."""
    spec = case.built[0]
    model = case.build(spec)
    return {**model.state_dict(), "the scores": _scores(model.eval(), spec)}


def scores_have_the_right_form(case: Case) -> None:
    """For every spec that it takes, it gives finite floating-point scores `[B, output_size]`."""
    for spec in case.built:
        with on(described(spec)):
            inputs = inputs_of(spec)
            with torch.no_grad():
                scores = forward(_model(case, spec).eval(), spec, inputs)
            pairs = (2,) if spec.target == "similarity" else ()
            wanted = (len(inputs), *pairs, spec.output_size)
            if not isinstance(scores, Tensor) or tuple(scores.shape) != wanted or not scores.is_floating_point():
                got = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
                raise CheckFailed(f"the scores must be floating-point {list(wanted)}, they are {got}")
            if not bool(torch.isfinite(scores).all()):
                raise CheckFailed("the scores of a new model are not finite")


def scores_are_raw(case: Case) -> None:
    """Whatever the weights, no final activation keeps the scores from falling below 0 and rising above 1."""
    spec = min(case.built, key=lambda spec: spec.target == "similarity")
    model = _model(case, spec).eval()
    source = generator(0, "shakes")
    lowest, highest = torch.inf, -torch.inf
    for _ in range(SHAKES):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=source).to(parameter.dtype))
        scores = _scores(model, spec)
        scores = scores[torch.isfinite(scores)]
        if scores.numel():
            lowest, highest = min(lowest, float(scores.min())), max(highest, float(scores.max()))
        if lowest < 0 and highest > 1:
            return
    raise CheckFailed(
        f"with {SHAKES} different weights its scores stayed within [{lowest:.3g}, {highest:.3g}]: leave out the "
        "sigmoid, softmax or other function after the last layer; the loss applies what it needs"
    )


def gradients_are_finite(case: Case) -> None:
    """For every spec that it takes, each parameter gets a finite gradient in training mode."""
    for spec in case.built:
        with on(described(spec)):
            model = _model(case, spec).train()
            parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
            if not parameters:
                raise CheckFailed("it has no parameters to train")
            loss = usual_loss(spec, forward(model, spec, inputs_of(spec)), targets_of(spec))
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            without = [name for name, parameter in parameters.items() if parameter.grad is None]
            if without:
                raise CheckFailed(
                    f"no gradient reaches {listing(without, 5)}: they take no part in the scores, or the graph is cut; "
                    "use them, or set requires_grad to False"
                )
            odd = [name for name, parameter in parameters.items() if not _finite(parameter.grad)]
            if odd:
                raise CheckFailed(f"the gradient of {listing(odd, 5)} is not finite")


def eval_mode_is_a_function(case: Case) -> None:
    """In eval mode it gives the same scores for the same inputs, and draws nothing."""
    for spec in _one_for_each_form(case):
        with on(described(spec)):
            model = _model(case, spec).eval()
            before = generators()
            first, again = _scores(model, spec), _scores(model, spec)
            if not identical(first, again):
                raise CheckFailed(
                    "two forward passes in eval mode differ: draw in training mode only, as nn.Dropout does"
                )
            if moved := differences(before, generators()):
                raise CheckFailed(f"a forward pass in eval mode draws from the global generator of {listing(moved)}")


def samples_do_not_mix(case: Case) -> None:
    """In eval mode the scores of a sample do not depend on the others in its batch."""
    for spec in _one_for_each_form(case):
        with on(described(spec)):
            model = _model(case, spec).eval()
            inputs = inputs_of(spec)
            with torch.no_grad():
                together = forward(model, spec, inputs)
                alone = torch.cat([forward(model, spec, one) for one in torch.split(inputs, 1)])
            if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
                most = float((together - alone).abs().max())
                raise CheckFailed(f"a sample's scores change by up to {most:.3g} with the other samples of its batch")


def inputs_are_left_alone(case: Case) -> None:
    """A forward pass does not change its inputs, in training mode nor in eval mode."""
    for spec in _one_for_each_form(case):
        with on(described(spec)):
            model, inputs = _model(case, spec), inputs_of(spec)
            for training in (True, False):
                with unchanged(inputs=inputs), torch.no_grad():
                    forward(model.train(training), spec, inputs)


def state_dict_round_trip(case: Case) -> None:
    """Loaded into a model of another seed, its `state_dict` gives the same scores, to the last bit."""
    for spec in _one_for_each_form(case):
        with on(described(spec)):
            model, other = _model(case, spec, seed=1), _model(case, spec, seed=2)
            with torch.no_grad():
                forward(model.train(), spec, inputs_of(spec))  # moves the statistics of norm layers
            try:
                state = {name: tensor.detach().clone() for name, tensor in model_state(model).items()}
            except StorageError as error:
                raise CheckFailed(str(error)) from error
            other.load_state_dict(state)
            if not identical(_scores(model.eval(), spec), _scores(other.eval(), spec)):
                raise CheckFailed(
                    "a model that loaded the state_dict of another one gives other scores: keep all that the scores "
                    "depend on in parameters and buffers"
                )


def works_in_float64(case: Case) -> None:
    """Turned to float64 it gives float64 scores, near those in float32."""
    for spec in _one_for_each_form(case):
        with on(f"{described(spec)}, all in float64"):
            model, inputs = _model(case, spec).eval(), inputs_of(spec)
            single = _scores(model, spec).double()
            with torch.no_grad():
                double = forward(model.double(), spec, inputs.double() if inputs.is_floating_point() else inputs)
            if double.dtype != torch.float64:
                raise CheckFailed(f"the scores are {double.dtype}: take the dtype of the inputs or of a parameter")
            if not torch.allclose(single, double, rtol=1e-3, atol=1e-3):
                raise CheckFailed(f"the scores differ by up to {float((single - double).abs().max()):.3g} from float32")


def moves_to_a_device(case: Case) -> str:
    """Moved to another device it takes inputs of that device: nothing stays behind."""
    device = other_device()
    for spec in _one_for_each_form(case):
        with on(described(spec)):
            model = _model(case, spec).eval()
            with on_other_device(device), torch.no_grad():
                forward(model.to(device), spec, inputs_of(spec).to(device))
    return f"tried on {device}"


KIT = Kit(
    build=build,
    use=use,
    may_draw=True,
    checks=(
        scores_have_the_right_form,
        eval_mode_is_a_function,
        scores_are_raw,
        gradients_are_finite,
        samples_do_not_mix,
        inputs_are_left_alone,
        state_dict_round_trip,
        works_in_float64,
        moves_to_a_device,
    ),
    gates=(scores_have_the_right_form, eval_mode_is_a_function),
    optional=(moves_to_a_device,),
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


def _model(case: Case, spec: DataSpec, seed: int = 0) -> nn.Module:
    seed_global(seed, "model")
    return case.build(spec)  # type: ignore[no-any-return]  # build has seen that it is one


@torch.no_grad()
def _scores(model: nn.Module, spec: DataSpec) -> Tensor:
    return forward(model, spec, inputs_of(spec))


def _one_for_each_form(case: Case) -> list[DataSpec]:
    """Of the specs that it takes, the first of each form of inputs."""
    return list({(spec.inputs, spec.input_shape): spec for spec in reversed(case.built)}.values())[::-1]


def _finite(gradient: Tensor | None) -> bool:
    if gradient is None:
        return False
    return bool(torch.isfinite(gradient.to_dense() if gradient.is_sparse else gradient).all())
