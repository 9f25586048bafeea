"""Checks, on one small batch and before the first step, that the parts of a run fit each other.

Declared contracts are compared first; then two samples go through the model, the loss and the metrics, in eval mode and
then in a training step. Afterwards all of them are as before, and so are the global generators of random numbers.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.data.loader import CHUNK, SCAN_BYTES, BatchLoader
from ptb.data.sample_rng import SampleGenerator
from ptb.data.spec import DataSpec
from ptb.device import is_memory_error
from ptb.errors import DataError, IncompatibleError, PtbError, count, listing, one_line
from ptb.registry.component import Component
from ptb.seeding import preserve_rng_state
from ptb.storage.codec import Decoder, EncodeError, Encoder
from ptb.storage.object_state import capture, restore
from ptb.training.objective import Parts
from ptb.training.trainer import preserve_state

PROBE_SAMPLES = 2
# Of samples that are read one by one, so many are looked at before the training; of samples at hand all, or about as
# many as are read at once where they need more than SCAN_BYTES.
SCAN_SAMPLES = 64


@dataclass(frozen=True)
class Names:
    """What to call the parts of a run in messages, and what changes the shape of the inputs."""

    dataset: str
    model: str
    loss: str
    optimizer: str
    remedy: str


def check_declared(spec: DataSpec, components: Mapping[str, Component], dataset: str) -> None:
    """Compares what losses and metrics say they accept with the data set's target kind.

    Args:
        spec: of the data set.
        components: those of the run, by section (``loss``, ``metrics.accuracy``).
        dataset: what to call the data set in the message.

    Raises:
        IncompatibleError: one does not take the target kind; the message says which kinds it takes.
    """
    for section, component in components.items():
        if component.accepts and spec.target not in component.accepts:
            kind = section.partition(".")[0].removesuffix("s") if section.startswith("metrics") else section
            raise IncompatibleError(
                f"{kind} '{component.name}' takes targets of kind {' or '.join(component.accepts)}; those of {dataset} "
                f"are '{spec.target}': choose another {kind} or another data set (`ptb list {kind}`)"
            )


def check_batches(parts: Parts, spec: DataSpec, names: Names) -> None:
    """Takes two samples of each split and holds them against the spec.

    Args:
        parts: the built run.
        spec: what the data set says of itself.
        names: what to call the parts in messages.

    Raises:
        DataError: a split is empty, or its samples are not what the spec says.
        IncompatibleError: the loss leaves out a class that there is not.
    """
    ignores = parts.ignored is None
    for name, batches in {**parts.evaluation, "train": parts.train}.items():
        if len(batches) == 0:
            dropped = f": loader.drop_last leaves none of its {count(batches.size, 'sample')}; choose a smaller "
            dropped = f"{dropped}loader.batch_size, or leave drop_last out" if batches.size else ""
            raise DataError(f"{names.dataset}: the {name} split is empty{dropped}")
        place = f"{names.dataset}, {name} split"
        _check_form(batches, spec, place, parts.pairs)
        _check_augment(batches, names.dataset)
        ignores |= _check_values(batches, spec, place, parts.ignored)
    if not ignores and spec.target == "class" and parts.ignored not in range(spec.output_size):
        raise IncompatibleError(
            f"loss.ignore_index={parts.ignored} leaves out nothing: no sample of {names.dataset} has that target, and "
            f"its classes are 0 to {spec.output_size - 1}; leave it away"
        )


def check_forward(parts: Parts, spec: DataSpec, names: Names) -> float:
    """Sends two training samples through the model, the loss and the metrics, and puts them back as they were.

    Returns:
        About how many floating-point operations one training step takes.

    Raises:
        IncompatibleError: one of them raises, or gives a tensor of another shape; the message names both, and shapes.
    """
    inputs, targets = _probe(parts.train, names.dataset)
    known = {id(parameter) for parameter in parts.model.parameters()}
    with _put_back(parts), torch.no_grad(), _operations(parts.model) as operations:
        parts.model.eval()
        with _misfit(
            f"{names.model} raised on samples of {names.dataset}, of shape {spec.input_shape}",
            f"; if that shape does not suit it, {names.remedy}",
        ):
            scores = parts.forward(inputs)
        if made := [name for name, each in parts.model.named_parameters() if id(each) not in known]:
            raise IncompatibleError(
                f"{names.model} makes parameters in its forward pass ({listing(made)}), which no optimizer would "
                "train; make them in its constructor"
            )
        wanted = (len(inputs), 2, spec.output_size) if parts.pairs else (len(inputs), spec.output_size)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != wanted:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise IncompatibleError(
                f"{names.model} must give scores of shape {wanted} for {names.dataset}, it gives {got}"
            )
        _check_loss(parts, scores, targets, names)
        for label, metric in parts.eval_metrics.items():
            with _misfit(f"metric '{label}' cannot take the scores and targets"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # two samples are too few for many a figure
                metric.update(scores, targets)
                float(metric.compute())
                metric.reset()
    return 3 * sum(operations) / len(inputs) * parts.train.batch_size  # forward, and two products as large backward


def check_step(
    parts: Parts, names: Names, optimizer: Optimizer, clip_norm: float | None, samples: int = PROBE_SAMPLES
) -> None:
    """Takes one optimizer step on a few samples, and puts the model and the loss back as they were.

    Args:
        parts: the built run; its own optimizer is not touched.
        names: what to call the parts in messages.
        optimizer: one like that of the run, thrown away afterwards.
        clip_norm: the largest norm of the gradients, if there is one.
        samples: how many.

    Raises:
        IncompatibleError: a parameter gets no gradient, or the optimizer cannot take a step on the gradients.
    """
    model = parts.model
    inputs, targets = _probe(parts.train, names.dataset, samples)

    def gradients() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = parts.mean_loss(parts.forward(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss

    with _put_back(parts):
        model.train()
        try:
            with _misfit(f"{names.model} with {names.loss} cannot be trained"):
                gradients()
            _check_gradients(parts, names)
            sparse = any(p.grad.is_sparse for p in model.parameters() if p.grad is not None)
            if clip_norm is not None and sparse:
                raise IncompatibleError(
                    f"trainer.clip_norm={clip_norm:g} cannot be used with the gradients of {names.model}: they are "
                    "sparse; leave it out"
                )
            _check_smallest_batch(parts, names)
            remedy = (
                "; its gradients are sparse: leave weight decay out, or choose optimizer sparse-adam" if sparse else ""
            )
            with _misfit(f"{names.optimizer} cannot take a step on {names.model}", remedy):
                optimizer.step(gradients if parts.closure else None)  # type: ignore[arg-type]
            _check_saved(parts, names, optimizer)
        finally:
            model.zero_grad(set_to_none=True)


@contextmanager
def _put_back(parts: Parts) -> Iterator[None]:
    """Leaves the model, the loss, the metrics and the random numbers after the block as they were before it."""
    weights = [(weight, weight.detach().clone()) for weight in parts.model.parameters()]
    metrics = parts.eval_metrics
    held = [(now, dict(now)) for part in (parts.model, parts.loss, *metrics.values()) for now in _namespaces(part)]
    writer = Encoder()
    try:
        figures = {label: capture(metric, f"metrics.{label}", writer) for label, metric in metrics.items()}
        with preserve_state(parts):
            try:
                yield
            finally:
                for now, before in held:  # `preserve_state` takes no attribute away
                    for name in now.keys() - before.keys():
                        del now[name]
                    now.update(before)
                with torch.no_grad():
                    for weight, value in weights:
                        weight.copy_(value)
                reader = Decoder(writer.tensors, parts.device)
                for label, metric in metrics.items():
                    restore(metric, figures[label], reader)
    except EncodeError as error:
        raise IncompatibleError(
            f"what a part keeps cannot be saved, so that a run could go on later: {error}"
        ) from error


def _namespaces(part: object) -> list[dict[str, Any]]:
    """Where an object, or a module and those in it, keep their attributes."""
    owners = part.modules() if isinstance(part, nn.Module) else (part,)
    names = ("__dict__", "_parameters", "_buffers", "_modules")
    return [held for owner in owners for name in names if isinstance(held := getattr(owner, name, None), dict)]


def _check_saved(parts: Parts, names: Names, optimizer: Optimizer) -> None:
    """A checkpoint holds numbers, texts and tensors: what a part keeps beside them would be lost when a run goes on."""
    kept = {
        names.model: lambda: dict(parts.model.state_dict()),
        names.optimizer: optimizer.state_dict,
        "the scheduler": parts.scheduler.state_dict,
    }
    for name, state in kept.items():
        try:
            Encoder().node(state(), "state")
        except EncodeError as error:
            raise IncompatibleError(f"{name} cannot be saved, so that a run could go on later: {error}") from error


def _check_gradients(parts: Parts, names: Names) -> None:
    parameters = {name: parameter for name, parameter in parts.model.named_parameters() if parameter.requires_grad}
    unused = [name for name, parameter in parameters.items() if parameter.grad is None]
    if unused:
        raise IncompatibleError(
            f"{names.model}: no gradient reaches {listing(unused)}: they take no part in the scores; "
            "use them, or set requires_grad to False"
        )
    dense = [
        name for name, parameter in parameters.items() if parameter.grad is not None and not parameter.grad.is_sparse
    ]
    if parts.sparse and dense:
        raise IncompatibleError(
            f"{names.optimizer} takes sparse gradients only, and {names.model} gives dense ones to {listing(dense)}; "
            "choose another optimizer, or a model whose gradients are sparse (embedding-bag with model.sparse=true)"
        )


def _check_smallest_batch(parts: Parts, names: Names) -> None:
    """Batch norm has no variance over a single value: a last batch of one sample would stop the first epoch."""
    train = parts.train
    rest = train.samples % train.batch_size
    if rest != 1 and train.batch_size != 1:
        return
    try:
        parts.forward(_probe(train, names.dataset)[0][:1])
    except ValueError as error:
        size, remedy = (
            ("loader.batch_size is 1", "choose a larger one")
            if train.batch_size == 1
            else (
                f"the last batch of {count(train.samples, 'sample')} has one",
                "set loader.drop_last=true, or choose another loader.batch_size",
            )
        )
        raise IncompatibleError(
            f"{names.model} cannot train on a batch of one sample, and {size}: {one_line(error)}; {remedy}"
        ) from error


def _check_form(batches: BatchLoader, spec: DataSpec, place: str, pairs: bool) -> None:
    inputs, targets = _probe(batches, place)
    size = len(inputs)
    shape = (size, 2, *spec.input_shape) if pairs else (size, *spec.input_shape)
    if tuple(inputs.shape) != shape:
        raise DataError(
            f"{place}: the spec says inputs of shape {shape[1:]}, the samples have {tuple(inputs.shape[1:])}"
        )
    wanted_shape, wanted_dtype = _target_form(spec, size)
    if tuple(targets.shape) != wanted_shape or targets.dtype != wanted_dtype:
        raise DataError(
            f"{place}: targets of kind '{spec.target}' are {_form(wanted_shape, wanted_dtype)}; "
            f"the first {count(size, 'sample')} give {_form(tuple(targets.shape), targets.dtype)}"
        )


def _check_augment(batches: BatchLoader, dataset: str) -> None:
    if batches.augment is None:
        return
    inputs, _ = _probe(batches, dataset)
    with _reading(dataset, "samples through augment"), preserve_rng_state():
        augmented = batches.augment(inputs, SampleGenerator(0, 1, torch.arange(len(inputs), device=inputs.device)))
    wanted = _form(tuple(inputs.shape), inputs.dtype)
    got = _form(tuple(augmented.shape), augmented.dtype) if isinstance(augmented, Tensor) else type(augmented).__name__
    if got != wanted:
        raise DataError(f"{dataset}: augment makes {got} of inputs {wanted}; it must keep shape and type")


def _check_loss(parts: Parts, scores: Tensor, targets: Tensor, names: Names) -> None:
    given = f"{_form(tuple(scores.shape), scores.dtype)} with the targets of"
    with _misfit(
        f"{names.loss} cannot take scores {given} {names.dataset} {_form(tuple(targets.shape), targets.dtype)}"
    ):
        value = parts.loss(scores, targets)
    if not isinstance(value, Tensor) or (value.ndim and len(value) != len(scores)):
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise IncompatibleError(f"{names.loss} must give a scalar tensor or one value a sample, it gives {got}")


def _check_values(batches: BatchLoader, spec: DataSpec, place: str, ignored: int | None) -> bool:
    """Holds the values of all samples against the spec, or of some, evenly spaced, where to read them all takes long.

    Returns:
        Whether some sample is left out by the loss, as far as that can be told.
    """
    order = _looked_at(batches)
    left_out = 0
    for chosen in torch.split(order, CHUNK):
        with _reading(place, count(len(order), "sample")), preserve_rng_state():
            inputs, targets = batches.source.take(chosen)
        if inputs.is_floating_point() and (bad := _first(~torch.isfinite(inputs).flatten(1).all(1))) is not None:
            raise DataError(f"{place}: sample {int(chosen[bad])} holds inputs that are not finite")
        wrong, valid = _wrong_targets(targets, spec, ignored)
        if (bad := _first(wrong)) is not None:
            shown = targets[bad].tolist()
            raise DataError(f"{place}: the target of sample {int(chosen[bad])} is {shown}; valid are {valid}")
        if spec.inputs == "tokens" and spec.vocabulary is not None:
            outside = ((inputs < 0) | (inputs >= spec.vocabulary)).flatten(1).any(1)
            if (bad := _first(outside)) is not None:
                raise DataError(f"{place}: sample {int(chosen[bad])} has tokens outside 0 to {spec.vocabulary - 1}")
        left_out += int((targets == ignored).sum()) if ignored is not None else 0
    if left_out == len(order):
        raise DataError(f"{place}: the loss leaves out every sample (loss.ignore_index={ignored})")
    return left_out > 0 or len(order) < batches.size


def _looked_at(batches: BatchLoader) -> Tensor:
    """The numbers of the samples that are looked at before the training."""
    order = torch.arange(batches.size)
    if not batches.at_hand:
        return order[:: max(batches.size // SCAN_SAMPLES, 1)]
    inputs, targets = batches.source.take(order[:1])
    large = batches.size * (inputs.nbytes + targets.nbytes) > SCAN_BYTES
    return order[:: max(batches.size // CHUNK, 1)] if large else order


def _wrong_targets(targets: Tensor, spec: DataSpec, ignored: int | None) -> tuple[Tensor, str]:
    """Which targets are not valid (a mask ``[N]``), and what is."""
    if spec.target == "class":
        wrong = (targets < 0) | (targets >= spec.output_size)
        return wrong & (targets != ignored) if ignored is not None else wrong, f"0 to {spec.output_size - 1}"
    if spec.target == "binary":
        return ((targets != 0) & (targets != 1)).flatten(1).any(1), "0 and 1"
    if spec.target == "similarity":
        return (targets != 1) & (targets != -1), "+1 and -1"
    if spec.target == "distribution":
        close = torch.isclose(targets.sum(1), torch.ones(()), atol=1e-4)
        return ~(close & (targets >= 0).all(1)), "rows of probabilities that sum to 1"
    return ~torch.isfinite(targets).flatten(1).all(1), "finite numbers"


def _first(mask: Tensor) -> int | None:
    """Where the first True stands."""
    return int(mask.int().argmax()) if bool(mask.any()) else None


def _probe(batches: BatchLoader, place: str, samples: int = PROBE_SAMPLES) -> tuple[Tensor, Tensor]:
    with _reading(place, "the first samples"), preserve_rng_state():
        return batches.probe(samples)


@contextmanager
def _operations(model: nn.Module) -> Iterator[list[float]]:
    """Lists the operations of the forward passes inside, of those layers whose weight has two or more dimensions.

    Each output value takes two operations for each of the inputs that it sees.
    """
    counted: list[float] = []

    def add(module: nn.Module, _inputs: object, output: object) -> None:
        weight = getattr(module, "weight", None)
        if isinstance(output, Tensor) and isinstance(weight, Tensor) and weight.ndim > 1:
            counted.append(2 * output.numel() * weight[0].numel())

    hooks = [module.register_forward_hook(add) for module in model.modules()]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _misfit(message: str, remedy: str = "") -> Iterator[None]:
    """Turns what a stranger's code raises inside, which may be anything, into a ``IncompatibleError``."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, PtbError) or is_memory_error(error):
            raise
        raise IncompatibleError(f"{message}: {one_line(error)}{remedy}") from error


@contextmanager
def _reading(place: str, what: str) -> Iterator[None]:
    """Turns what a data set raises inside, which may be anything, into a ``DataError`` that names the place."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    except (Exception, SystemExit) as error:
        if is_memory_error(error):
            raise
        raise DataError(f"{place}: reading {what} failed: {one_line(error)}") from error


def _target_form(spec: DataSpec, size: int) -> tuple[tuple[int, ...], torch.dtype]:
    if spec.target == "class":
        return (size,), torch.int64
    return ((size,) if spec.target == "similarity" else (size, spec.output_size)), torch.float32


def _form(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
