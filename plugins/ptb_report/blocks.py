"""What a page is made of: sections of blocks, plain values that the template turns into HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Note:
    """A paragraph; a ``warning`` says that something is missing or wrong."""

    text: str
    kind: Literal["info", "warning"] = "info"
    block: str = "note"


@dataclass(frozen=True)
class Failure:
    """Stands in the place of what could not be made."""

    title: str
    text: str
    block: str = "failure"


@dataclass(frozen=True)
class Code:
    """Lines to copy, or a file."""

    text: str
    block: str = "code"


@dataclass(frozen=True)
class Table:
    """Rows of values under a ``head``; numbers are shown short, with all of their digits behind them.

    With ``hidden`` it is folded away under its ``caption``.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    hidden: bool = False
    block: str = "table"


@dataclass(frozen=True)
class Card:
    """A figure that people look at first, with a line below it."""

    label: str
    value: Any
    text: str = ""


@dataclass(frozen=True)
class Cards:
    """The figures at the top."""

    cards: Sequence[Card]
    block: str = "cards"


@dataclass(frozen=True)
class Chart:
    """A chart of ECharts: its ``options`` as pyecharts makes them, and the same values as a table.

    ``kind`` says what the page adds: ``"matrix"`` opens the samples of a cell. ``alt`` is read out in place of it.
    """

    id: str
    title: str
    alt: str
    options: Mapping[str, Any]
    table: Table
    height: int = 300
    kind: str = ""
    note: str = ""
    block: str = "chart"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix as a table whose cells open their samples: ``counts[truth][prediction]``."""

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    block: str = "matrix"


@dataclass(frozen=True)
class Pairs:
    """Pairs of classes that are taken for each other: number of the truth, of the prediction, and of samples."""

    classes: Sequence[str]
    rows: Sequence[tuple[int, int, int]]
    block: str = "pairs"


@dataclass(frozen=True)
class Panel:
    """The place where the samples of a cell are shown."""

    text: str
    block: str = "panel"


@dataclass(frozen=True)
class Shown:
    """One sample: what people are shown of it, and what is said of it under ``head`` of its ``Gallery``.

    ``wrong`` marks a wrong prediction.
    """

    number: int
    preview: Mapping[str, Any]
    values: Sequence[Any]
    wrong: bool = False


@dataclass(frozen=True)
class Gallery:
    """Samples, each with what is said of it."""

    head: Sequence[str]
    samples: Sequence[Shown]
    block: str = "gallery"

    @property
    def in_pictures(self) -> bool:
        """Whether any of them is shown as a picture: then they stand beside each other."""
        return any("picture" in sample.preview for sample in self.samples)


@dataclass(frozen=True)
class Section:
    """A heading with an anchor, and what stands below it."""

    id: str
    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Page:
    """A whole page. ``samples`` is what the page looks cells up in, in the form of ``cells.sample_columns``."""

    title: str
    status: str
    subtitle: str
    sections: Sequence[Section]
    samples: Mapping[str, Any] = field(default_factory=dict)

    @property
    def charts(self) -> dict[str, Any]:
        """The options of all charts by their ids."""
        blocks = [block for section in self.sections for block in section.blocks]
        return {block.id: block.options for block in blocks if isinstance(block, Chart)}
