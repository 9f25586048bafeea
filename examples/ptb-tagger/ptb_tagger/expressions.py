"""Sequences of different lengths with a tag at each character."""

import random
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ptb import DataBundle, DataSpec

CHARACTERS = "_0123456789+-*()"  # the first one is padding
TAGS = ("number", "sign", "operator", "open", "close")
LONGEST = 40


def expressions() -> DataBundle:
    """A data set of int64 tokens ``[L]`` with a tag at each, L up to 40; the longest of a batch decides its width.

    Expressions are such as ``-3-(12*-4)``; whether a minus is a sign depends on what stands before it.
    """
    chance = random.Random(0)
    splits: list[Any] = [[_sample(_expression(chance, 3)) for _ in range(count)] for count in (400, 100, 100)]
    spec = DataSpec((LONGEST,), "tokens", "class", len(TAGS), TAGS, len(CHARACTERS), positions=(LONGEST,), padding=0)
    return DataBundle(spec, *splits, collate=_padded)


def _sample(text: str) -> tuple[Tensor, Tensor]:
    tags = [_tag(before, character) for before, character in zip(f"({text}", text[:LONGEST], strict=False)]
    return torch.tensor([*map(CHARACTERS.index, text[:LONGEST])]), torch.tensor([*map(TAGS.index, tags)])


def _padded(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    tokens, tags = zip(*samples, strict=True)
    # Loss and metrics leave a target of -100 out.
    return pad_sequence(tokens, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=-100)


def _expression(chance: random.Random, depth: int) -> str:
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(["", "-"]) + str(chance.randrange(100))
    return chance.choice(["{}+{}", "{}-{}", "({}*{})"]).format(*(_expression(chance, depth - 1) for _ in range(2)))


def _tag(before: str, character: str) -> str:
    if character == "-":
        return "operator" if before.isdigit() or before == ")" else "sign"
    return "number" if character.isdigit() else {"(": "open", ")": "close"}.get(character, "operator")
