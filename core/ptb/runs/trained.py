"""A trained model that is of use: what a run has learnt, on files, rows and arrays that it has never seen."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from ptb.config.layers import RunConfig
from ptb.config.resolve import ComponentConfig, resolve_some, selection
from ptb.data.batch import Batch, leaves, map_leaves
from ptb.data.decoding import plain
from ptb.data.preprocessor import Preprocessor, Sample
from ptb.data.spec import DataSpec
from ptb.errors import DataError, PluginError, StorageError
from ptb.registry.registry import Registry, load_selected
from ptb.runs import preprocessing
from ptb.runs.assembly import PRECISIONS, to_memory_format
from ptb.runs.blame import building, explain_oom, explaining, naming
from ptb.runs.processes import device_of
from ptb.runs.provenance import warn_of_other_code
from ptb.seeding import preserve_rng_state, seed_global
from ptb.storage.checkpoint import load_checkpoint, resolve_checkpoint
from ptb.storage.run_directory import RunDirectory, split_checkpoint
from ptb.training.blame import Calls
from ptb.training.objective import Objective
from ptb.training.protocols import Processes
from ptb.training.state import load_component_state, load_weights

# Batches that take less than so many seconds together are handed on together: each handing on costs as much as a batch.
AT_ONCE = 0.02


class Predicted(NamedTuple):
    """What is predicted for some inputs, in their order.

    Attributes:
        names: where each of them comes from.
        errors: why some of them cannot be used, by their place.
        columns: what ``Preprocessor.decode`` says of the others: lists of texts, and tensors on the CPU.
        scores: of the others, in the form of the targets, ``[B, ...]`` on the CPU; None without any.
    """

    names: list[str]
    errors: dict[int, str]
    columns: dict[str, Any]
    scores: Tensor | None

    def rows(self) -> Iterator[dict[str, Any]]:
        """A dict for each input: ``input``, and its columns, or ``error``."""
        columns = {name: plain(each) for name, each in self.columns.items()}
        values = zip(*columns.values(), strict=True)
        for place, name in enumerate(self.names):
            if place in self.errors:
                yield {"input": name, "error": self.errors[place]}
            else:
                yield {"input": name, **dict(zip(columns, next(values), strict=True))}


class TrainedModel:
    """The model of a run with all that it needs to predict. Its methods may be called from several threads.

    Attributes:
        model: the network, in eval mode, on ``device``.
        preprocessor: what turns files, rows and arrays into samples, and scores into the user's terms.
        device: where it computes.
        step: after which step the weights were saved.
        batch_size: that of the run, with which predictions are those of `ptb eval` to the last bit.
    """

    def __init__(
        self,
        objective: Objective,
        preprocessor: Preprocessor,
        step: int,
        batch_size: int,
        threads: int,
        components: Mapping[str, ComponentConfig],
    ) -> None:
        self._objective = objective
        self._components = components
        self.model = objective.model
        self.preprocessor = preprocessor
        self.device = objective.device
        self.step = step
        self.batch_size = batch_size
        self.threads = threads
        self.processes: Processes | None = None  # among which batches are shared out

    def __repr__(self) -> str:
        return f"<TrainedModel {type(self.model).__name__} of step {self.step}, {self.spec.target}, on {self.device}>"

    @property
    def spec(self) -> DataSpec:
        """What the samples look like."""
        return self.preprocessor.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of classes or labels in the order of their numbers; empty where they have none."""
        return self.spec.class_names

    def predict(self, sources: Any, *, batch_size: int | None = None) -> list[dict[str, Any]]:
        """What the model says of each input, in order.

        Args:
            sources: a path, a row (dict), a data frame, an array or a ``ptb.Sample``, or an iterable of such things.
            batch_size: inputs that are computed together; left out, that of the run.

        Returns:
            For each input a dict: ``input`` is where it comes from; the rest is what ``Preprocessor.decode`` gives, or
            ``error``, why it cannot be used.
        """
        return [row for batch in self.batches(sources, batch_size=batch_size) for row in batch.rows()]

    def batches(self, sources: Any, *, batch_size: int | None = None) -> Iterator[Predicted]:
        """The same while sources are read: a batch at a time, or several that took no time.

        Memory is needed for these and a few batches only.
        """
        scored: list[Predicted] = []
        begun = perf_counter()
        groups = _grouped(self._read(listed(sources)), batch_size or self.batch_size)
        for batch in map(self._scored, groups) if self.processes is None else self._computed_by_all(groups):
            if scored and not _alike(scored[-1].scores, batch.scores):
                yield self._decoded(scored)
                scored = []
            scored.append(batch)
            if perf_counter() > begun + AT_ONCE:
                yield self._decoded(scored)
                scored = []
                begun = perf_counter()
        if scored:
            yield self._decoded(scored)

    def scores(self, inputs: Any) -> Tensor:
        """Scores in the form of the targets, on the CPU, of a batch of inputs as samples have them, untransformed."""
        objective, transform = self._objective, self.preprocessor.transform
        calls, size = objective.calls, len(next(leaves(inputs)))
        with torch.inference_mode(), explain_oom(calls, str(self.device), size, trains=False):
            inputs = map_leaves(lambda each: each.to(self.device), inputs)
            if transform is not None:
                with explaining(DataError, "the transform of the run cannot take the inputs"):
                    inputs = transform(inputs)
            with naming(calls, self._components, "on these inputs"):
                return objective.predictions(objective.forward(inputs)).cpu()

    def to_fp32(self) -> str | None:
        """Compute in fp32 from now on; returns the name of the other precision that the run has used."""
        used, self._objective.autocast_dtype = self._objective.autocast_dtype, None
        return None if used is None else next(name for name, dtype in PRECISIONS.items() if dtype is used)

    def _read(self, sources: Iterable[Any]) -> Iterator[Sample]:
        """What the preprocessor reads; a source that is a ``Sample`` itself goes through as it is."""
        for are_samples, some in groupby(sources, lambda source: isinstance(source, Sample)):
            read = iter if are_samples else self.preprocessor.read
            yield from read_samples(read, some)

    def _scored(self, samples: Sequence[Sample]) -> Predicted:
        """A batch without its columns."""
        names, each_inputs = [sample.name for sample in samples], [sample.inputs for sample in samples]
        errors = {n: each.error for n, each in enumerate(samples) if each.error is not None and each.inputs is None}
        places = [place for place in range(len(samples)) if place not in errors]
        if not places:
            return Predicted(names, errors, {}, None)
        with explaining(DataError, "the samples that the preprocessor of the run has read make no batch"):
            inputs = self.collated([each_inputs[place] for place in places])
        scores = self.scores(inputs)
        floats = [each for each in leaves(inputs) if each.is_floating_point()]
        checked = [(each, "it holds values that are not finite") for each in floats]
        checked.append((scores, "the scores of the model are not finite for it"))
        if not all(math.isfinite(values.sum()) for values, _ in checked):  # one look for all, as it is the usual case
            usable = torch.ones(len(places), dtype=torch.bool)
            for values, text in checked:
                finite = values.isfinite().unsqueeze(-1).flatten(1).all(1)
                errors |= {places[each]: text for each in (usable & ~finite).nonzero().flatten().tolist()}
                usable &= finite
            scores = scores[usable]
        return Predicted(names, errors, {}, scores if len(scores) else None)

    def _computed_by_all(self, groups: Iterator[Sequence[Sample]]) -> Iterator[Predicted]:
        """Each process computes one batch in turn, and gets what the others have computed."""
        world = self.processes
        while world is not None and (batches := list(islice(groups, world.size))):
            own = self._scored(batches[world.rank]) if world.rank < len(batches) else None
            yield from world.gather(own)[: len(batches)]

    def _decoded(self, batches: Sequence[Predicted]) -> Predicted:
        """Batches as one, with its columns."""
        starts = accumulate((len(batch.names) for batch in batches), initial=0)
        names = [name for batch in batches for name in batch.names]
        errors = {
            start + place: error
            for start, batch in zip(starts, batches, strict=False)
            for place, error in batch.errors.items()
        }
        given = [batch.scores for batch in batches if batch.scores is not None]
        if not given:
            return Predicted(names, errors, {}, None)
        scores = torch.cat(given)
        with explaining(PluginError, "the preprocessor of the run cannot decode scores"):
            columns = dict(self.preprocessor.decode(scores))
            for name, values in columns.items():
                if len(values) != len(scores):
                    raise ValueError(f"column '{name}' must have {len(scores)} values, it has {len(values)}")
        return Predicted(names, errors, columns, scores)

    def predictions(self, scores: Tensor) -> Tensor:
        """What the model returns as scores, in the form of the targets: the loss may have asked for more of them."""
        read = getattr(self._objective.loss, "predictions", None)
        return scores if read is None else read(scores)

    def collated(self, inputs: list[Any]) -> Any:
        """One batch of the inputs of several samples."""
        collate = self.preprocessor.collate
        if collate is None:
            return torch.stack(inputs) if isinstance(inputs[0], Tensor) else default_collate(inputs)
        return Batch.of(collate(inputs)).inputs


def load(
    path: str | Path, checkpoint: str | int | None = None, *, device: str = "auto", registry: Registry | None = None
) -> TrainedModel:
    """Load the model of a run with all that it needs to predict. Needs neither the data nor the data set's settings.

    ::

        model = ptb.load("runs/mine")
        model.predict("new.csv")

    Args:
        path: the run directory, or ``"RUN@best"``.
        checkpoint: ``"best"``, ``"last"``, a step or a label; ``"best"`` if there is one, else ``"last"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        registry: as in ``ptb.train``; the plugin of the model, and that of the data set's preprocessor, must be in it.

    Raises:
        PtbError: one of its children; see ``ptb.errors``.
    """
    folder, named = split_checkpoint(str(Path(path).expanduser()))
    run = RunDirectory.open(folder)
    config = RunConfig.read([run.config], {"device": device})
    registry = registry or load_selected(selection(config))
    saved = preprocessing.read(run, registry)
    parts = resolve_some(config, registry, ["model", "loader", "trainer", *["loss"] * saved.predictions])
    components = {section: parts[section] for section in ("model", *["loss"] * saved.predictions)}
    warn_of_other_code(run, [component.entry.found for component in components.values()])
    weights = load_checkpoint(resolve_checkpoint(run.checkpoints, checkpoint or named))
    where = device_of(parts["run"].device)
    spec = saved.preprocessor.spec
    with preserve_rng_state(), explain_oom(Calls(), str(where), 1, trains=False), building(parts["model"]):
        seed_global(parts["run"].seed, "model")
        loss: Any = None
        if saved.predictions:
            with building(parts["loss"]):
                loss = parts["loss"].build(spec)
        model: nn.Module = parts["model"].build(spec.with_output(saved.output_size))
        with explaining(StorageError, f"the checkpoint of step {weights.step} does not fit the model or the loss"):
            state = weights.decode(where)
            load_weights(model.to(where), state["model"])
            if isinstance(loss, nn.Module):
                load_component_state(loss.to(where), state["loss"])
        model = to_memory_format(model, parts["trainer"].memory_format).eval().requires_grad_(False)
    precision = PRECISIONS[parts["trainer"].precision]
    objective = Objective(model, loss, where, autocast=precision, pairs=spec.target == "similarity")
    batch_size, threads = parts["loader"].batch_size, parts["run"].threads
    return TrainedModel(objective, saved.preprocessor, weights.step, batch_size, threads, components)


def _alike(scores: Tensor | None, others: Tensor | None) -> bool:
    """Whether they can be one tensor; those of sequences or pictures of any size cannot always."""
    return scores is not None and others is not None and scores.shape[1:] == others.shape[1:]


def listed(sources: Any) -> Iterable[Any]:
    """Sources one by one; what is one source itself is not taken apart."""
    one = isinstance(sources, str | Path | Mapping | Sample) or hasattr(sources, "shape") or hasattr(sources, "columns")
    return [sources] if one else sources


def read_samples(read: Callable[[Iterable[Any]], Iterable[Any]], sources: Iterable[Any]) -> Iterator[Sample]:
    """What ``Preprocessor.read`` gives; what it raises, or gives in place of samples, is a ``DataError``."""
    with explaining(DataError, "the preprocessor of the run failed to read"):
        for sample in read(sources):
            if not isinstance(sample, Sample):
                raise TypeError(f"read() must yield ptb.Sample, it yields a {type(sample).__name__}")
            yield sample


def _grouped(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while group := list(islice(samples, size)):
        yield group
