"""Text as numbers: lower-cased words, those of the training samples known, all others one and the same."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

PADDING, UNKNOWN = 0, 1
SPECIAL = 2
_WORD = re.compile(r"\w+(?:'\w+)?")


def words(text: str) -> list[str]:
    """The words of a text in lower case: letters, digits and underscores in a row, an apostrophe between them kept."""
    return _WORD.findall(text.lower())


class Vocabulary:
    """The words of some texts, the most frequent first, those that are as frequent by the alphabet.

    Args:
        texts: of the training samples.
        limit: the most tokens, padding and unknown among them.
    """

    def __init__(self, texts: Iterable[str], limit: int) -> None:
        counts = Counter(word for text in texts for word in words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))[: limit - SPECIAL]
        self.numbers = {word: number for number, word in enumerate(ranked, SPECIAL)}

    @classmethod
    def of(cls, words: Sequence[str]) -> "Vocabulary":
        """One of these words, in the order of their numbers."""
        known = cls((), SPECIAL)
        known.numbers = {word: number for number, word in enumerate(words, SPECIAL)}
        return known

    def __len__(self) -> int:
        return SPECIAL + len(self.numbers)

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Int64 ``[len(texts), length]``: the first words of each, 1 for the unknown, then 0."""
        tokens = np.full((len(texts), length), PADDING, dtype=np.int64)
        for row, text in enumerate(texts):
            found = [self.numbers.get(word, UNKNOWN) for word in words(text)[:length]]
            tokens[row, : len(found)] = found
        return tokens
