"""Writes a table of real text: the first paragraphs of docstrings of NumPy and torch, labelled with their package.

First ``python examples/docstrings_csv.py docstrings.csv``, then ``ptb run --model embedding-bag --dataset csv
dataset.path=docstrings.csv dataset.target=package dataset.text=words``.
"""

import csv
import inspect
import sys
import types
from collections.abc import Iterator

import numpy
import torch

MODULES = [numpy, numpy.linalg, numpy.fft, numpy.random, torch, torch.nn, torch.nn.functional, torch.linalg, torch.fft]


def paragraphs() -> Iterator[tuple[str, str]]:
    """Pairs of package and text, one for each documented function or class."""
    for module in MODULES:
        for name, thing in sorted(vars(module).items()):
            if name.startswith("_") or isinstance(thing, types.ModuleType) or not callable(thing):
                continue
            texts = (inspect.getdoc(thing) or "").split("\n\n")
            texts = [text for text in texts if " " in text and "(" not in text[:40]]  # the others are signatures
            if texts:
                yield module.__name__.partition(".")[0], " ".join(texts[0].split())


def main(path: str) -> None:
    """Writes the table to ``path``."""
    rows = sorted(set(paragraphs()))
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("package", "words"), *rows])
    print(f"{path}: {len(rows)} rows")


if __name__ == "__main__":
    main(sys.argv[1])
