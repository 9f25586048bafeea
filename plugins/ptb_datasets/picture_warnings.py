"""What is said of pictures whose files hold more than training sees of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from ptb_datasets.picture_file import Facts
from ptb_datasets.typed import typed

# Of a 16-bit picture, fewer levels than a quarter of the 256 are left.
NARROW = 1 << 14
HALF = 1 << 15


@dataclass
class Seen:
    """Counts over the pictures of a folder.

    Args:
        transparent: pictures whose opacity varies.
        deep: pictures of more than 8 bits.
        low: the lowest value of these.
        high: the highest.
        flat: pictures that are black or white all over by ``value_range``.
        example: the first transparent or flat one.
        invisible: pictures without any opacity.
        hidden: the first of these.
    """

    transparent: int = 0
    deep: int = 0
    low: int = HALF * 2
    high: int = 0
    flat: int = 0
    example: str = ""
    invisible: int = 0
    hidden: str = ""

    def add(self, path: str, facts: Facts) -> None:
        """Count one."""
        if (facts.transparent or facts.flat) and not self.example:
            self.example = path
        if facts.invisible:
            self.invisible, self.hidden = self.invisible + 1, self.hidden or path
        self.transparent += facts.transparent
        self.flat += facts.flat
        if facts.low is not None and facts.high is not None:
            self.deep += 1
            self.low, self.high = min(self.low, facts.low), max(self.high, facts.high)

    def warnings(self) -> Iterator[str]:
        """Sentences, each with what to type."""
        if self.transparent:
            yield (
                f"{_pictures(self.transparent)} partly transparent, and what lies behind is not said: the colours of "
                f"transparent pixels are trained on as they are stored (the first: {self.example!r}); "
                f"{typed('background', [255, 255, 255])} puts them on white"
            )
        if self.invisible:
            yield (
                f"{_pictures(self.invisible)} transparent all over; their colours are trained on as they are stored, "
                f"often one alone, where a viewer shows nothing (the first: {self.hidden!r})"
            )
        if self.deep and (self.high < HALF or self.high - self.low < NARROW):
            yield (
                f"{_pictures(self.deep)} of 16 bits and hold{'s' * (self.deep == 1)} values from {self.low} to "
                f"{self.high} only, of which {(self.high >> 8) - (self.low >> 8) + 1} of 256 levels are left; "
                f"{typed('value_range', [self.low, max(self.high, self.low + 1)])} makes them 0 to 255"
            )
        if self.flat:
            yield (
                f"{_pictures(self.flat)} black or white all over by dataset.value_range (the first: {self.example!r}); "
                "look whether it is the range of the stored values"
            )


def _pictures(number: int) -> str:
    return f"{number} picture{'s are' if number > 1 else ' is'}"
