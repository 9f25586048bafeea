"""The baseline for texts and other token sequences: fast, and blind to the order of the tokens."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb_models.forms import check_one_vector

PADDING = 0


class EmbeddingBag(nn.Module):
    """One vector for each token, reduced over the sample's tokens, then a linear layer.

    ``spec.padding``, else token 0, is left out of the bag; a sample of padding alone has a bag of zeros.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html; as a classifier of texts: Joulin et al.,
    2016, arXiv:1607.01759.

    Args:
        spec: tokens, int64 in [0, vocabulary); shorter samples are filled up with padding.
        embedding_dim: size of each token's vector.
        mode: how the vectors are reduced, ``"mean"``, ``"sum"`` or ``"max"``.
        sparse: give sparse gradients, which hold only the rows of the tokens in the batch, for optimizers that take
            nothing else (``torch.optim.SparseAdam``). Linear layers have no such gradients, so the model is then the
            bag alone: each token's vector has ``output_size`` values, and their mean or sum is the scores.

    Raises:
        ValueError: the inputs are no tokens, or ``sparse`` is asked for with mode ``"max"``; or there are targets
            at each position, or further inputs.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        embedding_dim: int = 64,
        mode: Literal["mean", "sum", "max"] = "mean",
        sparse: bool = False,
    ) -> None:
        super().__init__()
        if spec.vocabulary is None:
            raise ValueError(f"embedding-bag takes tokens, these inputs are of kind '{spec.inputs}'")
        check_one_vector("embedding-bag", spec)
        if sparse and mode == "max":
            raise ValueError("embedding-bag has no sparse gradients with mode max: choose mode mean or sum")
        checks: Any = torch.sparse.check_sparse_tensor_invariants
        if sparse and not checks.is_enabled():
            checks.disable()  # off as they are, but said aloud: else torch warns in the first step of some optimizers
        width = spec.output_size if sparse else embedding_dim
        padding = PADDING if spec.padding is None else spec.padding
        self.embedding = nn.EmbeddingBag(spec.vocabulary, width, mode=mode, sparse=sparse, padding_idx=padding)
        self.head = None if sparse else nn.Linear(width, spec.output_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """Tokens ``[B, *input_shape]`` to scores ``[B, output_size]``."""
        bags = self.embedding(inputs.flatten(1))  # (B, embedding_dim), or the scores
        return bags if self.head is None else self.head(bags)  # type: ignore[no-any-return]
