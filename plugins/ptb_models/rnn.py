"""The network for sequences whose order matters: texts, sensors, tagging; small data, or long and of any length."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ptb import DataSpec
from ptb_models.forms import check_fields

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
LENGTHS = "lengths"


class RNN(nn.Module):
    """Layers of LSTM or GRU, then one linear layer.

    Where the targets are one a sample, the last layer's state after the last token gives the scores, in both directions
    that after the first one too; where there is one at each position, its output there.

    Sequences end at their last token that is not ``spec.padding``, or where the field ``lengths`` says; what follows
    changes nothing. Their lengths have to be known on the host, so a GPU waits for them once a batch; data sets without
    padding and lengths are spared that.

    Args:
        spec: tokens ``(length,)``, or arrays or vectors ``(length, features)``; positions, if any, are ``(length,)``.
        cell: ``"lstm"`` (Hochreiter and Schmidhuber, 1997, doi:10.1162/neco.1997.9.8.1735) or ``"gru"`` (Cho et al.,
            2014, arXiv:1406.1078).
        hidden: size of a layer's state.
        layers: how many.
        bidirectional: read in both directions, each with a state of its own.
        dropout: in [0, 1), the part of each layer's outputs that training sets to 0.
        embedding_dim: size of each token's vector; tokens only.

    Raises:
        ValueError: the inputs are no sequences, the targets are at other positions, or there are inputs other than
            ``lengths``.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: int = 128,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        embedding_dim: int = 64,
    ) -> None:
        super().__init__()
        tokens = spec.inputs == "tokens"
        if len(spec.input_shape) != (1 if tokens else 2) or spec.inputs == "image":
            raise ValueError(
                "rnn takes tokens (length,) or vectors over time (length, features), these inputs are of kind "
                f"'{spec.inputs}', {spec.input_shape}"
            )
        if spec.positions not in ((), spec.input_shape[:1]):
            raise ValueError(
                f"rnn takes one target a sample or one at each of {spec.input_shape[0]} places of a sequence, these "
                f"are at {spec.positions} positions"
            )
        check_fields("rnn", spec, (LENGTHS,))
        self.padding = spec.padding
        self.at_each_position = bool(spec.positions)
        self.embedding = (
            nn.Embedding(spec.vocabulary, embedding_dim, padding_idx=spec.padding) if spec.vocabulary else nn.Identity()
        )
        sizes = [embedding_dim if tokens else spec.input_shape[1]]
        sizes += [hidden * (1 + bidirectional)] * layers
        # One by one: the dropout between the layers of one nn.LSTM on a GPU has a state that no checkpoint holds.
        self.layers = nn.ModuleList(
            CELLS[cell](size, hidden, batch_first=True, bidirectional=bidirectional) for size in sizes[:-1]
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(sizes[-1], spec.output_size)

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Sequences ``[B, L]`` or ``[B, L, F]`` to scores ``[B, output_size]`` or ``[B, output_size, L]``.

        With lengths: a dict of ``inputs`` and ``lengths`` ``[B]``.
        """
        sequences = inputs if isinstance(inputs, Tensor) else inputs["inputs"]
        lengths = self._lengths(inputs)
        x = self.embedding(sequences)  # (B, L, F)
        total = x.shape[1]
        if lengths is not None:
            x = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        for layer in self.layers:
            x, state = layer(x)
            x = x._replace(data=self.dropout(x.data)) if isinstance(x, PackedSequence) else self.dropout(x)
        if self.at_each_position:
            if isinstance(x, PackedSequence):
                x, _ = pad_packed_sequence(x, batch_first=True, total_length=total)
            return self.head(x).transpose(1, 2)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
        last = state[0] if isinstance(state, tuple) else state  # (directions, B, hidden)
        return self.head(self.dropout(torch.cat(last.unbind(), dim=1)))  # type: ignore[no-any-return]

    def _lengths(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor | None:
        """How long each sequence is, at least 1: int64 ``[B]``; None where all are as long as the batch."""
        if not isinstance(inputs, Tensor):
            return inputs[LENGTHS].flatten().long().clamp(min=1)
        if self.padding is None:
            return None
        places = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)
        return (places * (inputs != self.padding)).amax(1).clamp(min=1)
