"""The network for sequences whose order matters: texts, sensors, tagging; small data, or long and of any length."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ptb import DataSpec
from ptb_models.forms import check_fields

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


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
        check_fields("rnn", spec, ("lengths",))
        self.padding = spec.padding
        self.at_each_position = bool(spec.positions)
        self.bidirectional = bidirectional
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

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Sequences ``[B, L]`` or ``[B, L, F]`` to scores ``[B, output_size]`` or ``[B, output_size, L]``.

        With lengths: a dict of ``inputs`` and ``lengths`` ``[B]``.
        """
        sequences = inputs if isinstance(inputs, Tensor) else inputs["inputs"]
        lengths = self._lengths(inputs)
        x = self.embedding(sequences)  # (B, L, F)
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._on_padded(x, lengths)
        return self._on_packed(x, lengths)

    @torch.jit.unused
    def _on_packed(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Scores, computed at the places of each sequence alone."""
        if torch.compiler.is_exporting() and lengths is not None:
            return self._on_padded(x, lengths)
        total = x.shape[1]
        packed: Any = x
        if lengths is not None:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        for layer in self.layers:
            packed, state = layer(packed)
            if isinstance(packed, PackedSequence):
                packed = packed._replace(data=self.dropout(packed.data))
            else:
                packed = self.dropout(packed)
        if self.at_each_position:
            if isinstance(packed, PackedSequence):
                packed, _ = pad_packed_sequence(packed, batch_first=True, total_length=total)
            places: Tensor = self.head(packed)
            return places.transpose(1, 2)
        last = state[0] if isinstance(state, tuple) else state  # (directions, B, hidden)
        scores: Tensor = self.head(self.dropout(torch.cat(last.unbind(), dim=1)))
        return scores

    def _on_padded(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The same for TorchScript and ``torch.export``, which know no packed sequences: padding is computed, and cut.

        In both directions a layer runs twice: with the padding after the sequences, for its states forwards, and with
        the padding before them, for those backwards.
        """
        if lengths is None:
            lengths = torch.full((x.shape[0],), x.shape[1], device=x.device)
        inside = (torch.arange(x.shape[1], device=x.device) < lengths[:, None]).unsqueeze(2)  # (B, L, 1)
        outputs = x
        for layer in self.layers:
            outputs = layer(x)[0]
            if self.bidirectional:
                backwards = _rolled(layer(_rolled(x, lengths))[0], -lengths)
                outputs = torch.cat([outputs.chunk(2, 2)[0], backwards.chunk(2, 2)[1]], 2)
            x = self.dropout(outputs) * inside
        if self.at_each_position:
            places: Tensor = self.head(x)
            return places.transpose(1, 2)
        ends = (lengths - 1)[:, None, None].expand(-1, 1, outputs.shape[2])
        last = outputs.gather(1, ends)[:, 0]
        if self.bidirectional:
            last = torch.cat([last.chunk(2, 1)[0], outputs[:, 0].chunk(2, 1)[1]], 1)
        scores: Tensor = self.head(self.dropout(last))
        return scores

    def _lengths(self, inputs: Tensor | dict[str, Tensor]) -> Tensor | None:
        """How long each sequence is, at least 1: int64 ``[B]``; None where all are as long as the batch."""
        if not isinstance(inputs, Tensor):
            return inputs["lengths"].flatten().long().clamp(min=1)
        if self.padding is None:
            return None
        places = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)
        return (places * (inputs != self.padding)).amax(1).clamp(min=1)


def _rolled(x: Tensor, shift: Tensor) -> Tensor:
    """Each sequence of ``[B, L, F]`` moved to the left by its own number of places; what falls out comes in again."""
    places = (torch.arange(x.shape[1], device=x.device) + shift[:, None]) % x.shape[1]
    return x.gather(1, places.unsqueeze(2).expand(-1, -1, x.shape[2]))
