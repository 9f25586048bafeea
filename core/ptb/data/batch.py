"""A batch of samples: inputs, targets and perhaps weights, each a tensor or a dict of tensors."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

from ptb.errors import DataError


class Batch(NamedTuple):
    """Samples along the first dimension of every tensor.

    Attributes:
        inputs: a tensor ``[B, *input_shape]``, or a dict of tensors where the data set's spec has ``fields``.
        targets: a tensor ``[B, ...]``; an empty dict where samples have none.
        weights: of the samples, float32 ``[B]``, or None.
    """

    inputs: Any
    targets: Any
    weights: Tensor | None = None

    @classmethod
    def of(cls, parts: Any) -> "Batch":
        """The batch of a tuple of inputs, targets and perhaps weights, or of inputs alone.

        Raises:
            DataError: they are something else, or are not of one length.
        """
        given = list(parts) if isinstance(parts, tuple | list) else [parts]
        inputs, targets, weights = (*given, *((), {}, None)[len(given) :])[:3]
        valid = len(given) <= 3 and is_tree(inputs) and (isinstance(targets, Tensor) or len(given) == 1)
        if not valid or not isinstance(weights, Tensor | None):
            got = ", ".join(
                f"dict of {', '.join(each)}" if isinstance(each, dict) else type(each).__name__ for each in given
            )
            raise DataError(
                "a sample must be (inputs, targets), (inputs, targets, weight) or, without targets, inputs: tensors or "
                f"numbers, several inputs as a dict of tensors; got ({got}). Graphs, and targets such as lists of "
                "boxes, are not supported"
            )
        batch = cls(inputs, targets, None if weights is None else weights.float())
        shapes = [tuple(tensor.shape) for tensor in batch.tensors()]
        if len({shape[:1] for shape in shapes}) > 1 or () in shapes or (weights is not None and weights.ndim != 1):
            raise DataError(
                "inputs, targets and weights must be tensors of one length, and weights one number a sample; got "
                f"tensors of shape {', '.join(map(str, shapes))}"
            )
        return batch

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(next(leaves(self.inputs), ()))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        """All tensors: inputs, targets, weights."""
        for part in self:
            yield from leaves(part)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with ``function`` applied to every tensor."""
        inputs, targets, weights = self
        if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and weights is None:
            return Batch(function(inputs), function(targets))
        return Batch(*(map_leaves(function, part) for part in self))


NOTHING = Batch({}, {})  # the piece of a process for which a batch has no sample


class MixedBatch(Batch):
    """One whose targets are probabilities ``[B, C]``, as ``augment`` has mixed samples of several classes."""

    classes: Tensor  # int64 [B], the targets before that: what metrics see

    @classmethod
    def of_classes(cls, batch: Batch, classes: Tensor) -> "MixedBatch":
        """A batch with the classes that its samples had."""
        mixed = cls(*batch)
        mixed.classes = classes
        return mixed

    def map(self, function: Callable[[Tensor], Tensor]) -> "MixedBatch":
        """The batch with ``function`` applied to every tensor."""
        return MixedBatch.of_classes(super().map(function), function(self.classes))


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tensor, a dict of tensors or None."""
    if isinstance(tree, dict):
        yield from tree.values()
    elif tree is not None:
        yield tree


def map_leaves(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """A tensor or a dict of tensors with ``function`` applied to each; None stays None."""
    if isinstance(tree, dict):
        return {name: function(tensor) for name, tensor in tree.items()}
    return None if tree is None else function(tree)


def is_tree(tree: Any) -> bool:
    """Whether it is a tensor, or a dict of some tensors."""
    if isinstance(tree, dict):
        return bool(tree) and all(isinstance(each, Tensor) for each in tree.values())
    return isinstance(tree, Tensor)
