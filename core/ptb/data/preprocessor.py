"""From what users have to samples as training saw them, and from scores to their terms. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from ptb.data.spec import DataSpec


class Sample(NamedTuple):
    """One sample that a preprocessor has read.

    Attributes:
        name: where it comes from: a file, ``"prices.csv:12"`` for a line of one.
        inputs: as the training samples have them, before ``collate`` and ``transform``; None with an error.
        targets: as the training samples have them; None where the source has none.
        error: why it cannot be used; with inputs, only the targets cannot.
    """

    name: str
    inputs: Any = None
    targets: Any = None
    error: str | None = None


class Preprocessor:
    """What a data set has learnt of its training samples, and so what turns other data into samples like them.

    A subclass is built without arguments; then ``spec`` is set, and ``load_state_dict`` called, or a method of its own
    that fits it. A run saves it before the first step: it needs no training data and none of the data set's settings.

    Attributes:
        spec: what the samples look like.
        collate: makes one batch of a list of the ``inputs`` of samples, without targets; None stacks them.
        transform: as that of the ``DataBundle``.
    """

    spec: DataSpec
    collate: Callable[[list[Any]], Any] | None = None
    transform: Callable[[Any], Any] | None = None

    def read(self, sources: Iterable[Any]) -> Iterator[Sample]:
        """Yield the samples of files and folders (paths), arrays, frames or rows (dicts), in order, one by one.

        Nothing is read while the model computes, unless this reads ahead in threads of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no read(sources)")

    def decode(self, scores: Tensor) -> dict[str, Any]:
        """What scores ``[B, ...]``, in the form of the targets, say: columns of ``B`` values by name.

        ========================= ========================================================================
        target                    columns
        ========================= ========================================================================
        class, binary             ``prediction``, ``probability`` of it, ``probability:NAME`` of each class
        multilabel                ``prediction``: the labels above one half by ``|``; ``probability:NAME``
        distribution              ``probability:NAME`` of each class
        real                      ``prediction``, or ``prediction:NAME`` of each target, in its own units
        similarity                ``prediction``: the cosine of both embeddings
        with positions, and none  ``prediction``: the class at each position, or the values
        ========================= ========================================================================

        Returns:
            Lists of texts, and tensors ``[B, ...]`` on the CPU.
        """
        from ptb.data.decoding import decoded

        return decoded(self.spec, scores)

    def decode_targets(self, targets: Tensor) -> Any:
        """What targets ``[B, ...]`` are in the user's terms: names, labels joined by ``|``, values in their own units.

        Returns:
            A list of texts, or a tensor ``[B, ...]`` on the CPU.
        """
        from ptb.data.decoding import decoded_targets

        return decoded_targets(self.spec, targets)

    def show(self, inputs: Any) -> Any:
        """What people are shown of the inputs of one sample, as ``read`` gives them.

        Returns:
            A picture (a uint8 tensor ``[1 or 3, H, W]``), a text, or a row (a dict of plain values by name).
        """
        from ptb.data.decoding import shown

        return shown(self.spec, inputs)

    def state_dict(self) -> dict[str, Any]:
        """All attributes but ``spec``: numbers, texts, tensors, arrays and containers of them."""
        return {name: value for name, value in vars(self).items() if name != "spec"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        vars(self).update(state)
