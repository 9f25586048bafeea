"""Is it a function of NumPy or of torch? A docstring's words tell, and so does its form."""

import inspect
import zlib

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import StackDataset, random_split

from ptb import DataBundle, DataSpec, InputSpec

WORDS, LONGEST = 2000, 40


def docstrings() -> DataBundle:
    """First words int64 ``[40]`` and a table row ``[2]`` (logarithms of lines and characters) of each docstring."""
    documents = [
        (text, float(label))
        for label, package in enumerate((numpy, torch))
        for _, thing in sorted(vars(package).items())
        if callable(thing) and len(text := inspect.getdoc(thing) or "") > 100
    ]
    table = torch.tensor([[len(text.splitlines()), len(text)] for text, _ in documents]).log()
    words = [(text.lower().split() + [""] * LONGEST)[:LONGEST] for text, _ in documents]
    numbers = torch.tensor([[zlib.crc32(word.encode()) % WORDS for word in text] for text in words])
    inputs = StackDataset(inputs=numbers, table=table)
    samples = StackDataset(inputs, torch.tensor([[label] for _, label in documents]))
    splits = random_split(samples, (0.6, 0.2, 0.2), torch.Generator().manual_seed(0))
    spec = DataSpec((LONGEST,), "tokens", "binary", 1, vocabulary=WORDS, fields={"table": InputSpec((2,), "vector")})
    return DataBundle(spec, *splits)


class TextAndTable(nn.Module):
    """The mean of the word vectors beside the row of the table, then one linear layer."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, 32)
        self.last = nn.Linear(32 + spec.fields["table"].shape[0], spec.output_size)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Scores ``[B, output_size]`` of ``inputs``, words ``[B, L]``, and ``table``, numbers ``[B, 2]``."""
        return self.last(torch.cat([self.words(inputs["inputs"]), inputs["table"]], 1))  # type: ignore[no-any-return]
