"""What is in an exported file: the transformation of the data set, the model, and the last link."""

from typing import Any

import torch
from torch import Tensor, nn

from ptb import DataSpec, TrainedModel

# What the second output is called, by target; the first are the raw scores.
OUTPUTS = {
    "class": "probabilities",
    "binary": "probabilities",
    "multilabel": "probabilities",
    "distribution": "probabilities",
    "real": "values",
    "similarity": "cosine",
    "none": "values",
}


class Graph(nn.Module):
    """Inputs as samples have them, to raw scores and what they say: probabilities, or values in their own units.

    Args:
        model: what is exported.
    """

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.model = model.model
        self._pairs = model.spec.target == "similarity"
        self._transform = model.preprocessor.transform
        self._predictions = model.predictions
        self.link = Link(model.spec)

    def forward(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Scores ``[B, ...]`` in the form of the targets, and what they say, of inputs before ``transform``."""
        if self._transform is not None:
            inputs = self._transform(inputs)
        if self._pairs:
            scores = _scores(self.model(inputs.flatten(0, 1)))
            scores = scores.view(-1, 2, *scores.shape[1:])
        else:
            scores = self._predictions(_scores(self.model(inputs)))
        return scores, self.link(scores)


class Link(nn.Module):
    """From scores to what they say: sigmoid, softmax, units of the target, or the cosine of both embeddings."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self._target = spec.target
        shape = (-1, *(1,) * len(spec.positions))
        self.register_buffer("mean", torch.tensor(spec.target_mean or (0.0,)).view(shape))
        self.register_buffer("std", torch.tensor(spec.target_std or (1.0,)).view(shape))

    def forward(self, scores: Tensor) -> Tensor:
        """Probabilities ``[B, C, ...]`` (two columns for binary), values ``[B, ...]`` or cosines ``[B]``."""
        if self._target == "binary":
            one = scores.sigmoid()
            return torch.cat([1 - one, one], 1)
        if self._target == "multilabel":
            return scores.sigmoid()
        if self._target in ("class", "distribution"):
            return scores.softmax(1)
        if self._target == "similarity":
            return torch.cosine_similarity(scores[:, 0], scores[:, 1], dim=1)
        if self._target == "real":
            return scores * self.std + self.mean
        return scores


def _scores(outputs: Any) -> Tensor:
    scores: Tensor = outputs["scores"] if isinstance(outputs, dict) else outputs
    return scores
