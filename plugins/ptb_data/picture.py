"""What ``ptb data show --plot`` draws: a page of training samples, or how the columns of a table are spread."""

import io
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptb import ConfigError, DataBundle, PluginError, Preprocessor
from ptb.internals import ComponentConfig, build_dataset, listing, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNDATED: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
SAMPLES, ACROSS = 24, 6
MOST_ROWS, MOST_COLUMNS, MOST_VALUES = 5_000, 24, 12
BLUE = "#0072B2"
# Fonts for characters that the usual one lacks, those of them that are installed.
FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Microsoft YaHei", "SimHei", "PingFang SC", "WenQuanYi Zen Hei")


def check_file(file: Path) -> None:
    """Refuses, before data is read, a file that is there, of another format, or without matplotlib.

    Raises:
        ConfigError: it says what is valid.
        PluginError: matplotlib is not installed.
    """
    if file.suffix.lower() not in UNDATED:
        raise ConfigError(f"--plot {file}: the samples can be drawn into a file that ends in {listing([*UNDATED])}")
    if file.exists():
        raise ConfigError(f"--plot {file} is there already; name a new file, or remove it")
    if find_spec("matplotlib") is None:
        raise PluginError("--plot needs matplotlib; run\n  python -m pip install 'pytorch-basics[plots]'")


def draw(dataset: ComponentConfig, seed: int, file: Path) -> None:
    """Draw samples that are spread over the training split; the same data gives the same file.

    Raises:
        ConfigError: the data set is a stream, whose samples cannot be picked.
    """
    bundle = build_dataset(dataset, seed)
    figure = figure_of(bundle)
    suffix = file.suffix.lower()
    import matplotlib as mpl
    from matplotlib.font_manager import fontManager

    installed = {entry.name for entry in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "ptb", "svg.fonttype": "none"}), warnings.catch_warnings():
        if suffix == ".svg":
            warnings.filterwarnings("ignore", message="Glyph")  # text stays text
        from matplotlib.text import Text

        for each in figure.findobj(Text):
            each.set_fontfamily(families)
        figure.savefig(stream, format=suffix[1:], dpi=150, metadata=UNDATED[suffix])
    write_atomically(file, stream.getvalue())


def figure_of(bundle: DataBundle) -> "Figure":
    """The page of a data set."""
    samples: Any = bundle.train
    if not hasattr(samples, "__getitem__"):
        raise ConfigError("the data set is a stream: none of its samples can be picked, and so none drawn")
    preprocessor = bundle.preprocessor or Preprocessor()
    preprocessor.spec = bundle.spec
    first = preprocessor.show(samples[0][0])
    if isinstance(first, dict):
        rows = [preprocessor.show(samples[number][0]) for number in _spread(len(samples), MOST_ROWS)]
        return _columns(rows)
    chosen = [samples[number] for number in _spread(len(samples), SAMPLES)]
    return _page([preprocessor.show(sample[0]) for sample in chosen], _labels(preprocessor, chosen))


def _spread(size: int, most: int) -> list[int]:
    count = min(size, most)
    return [place * size // count for place in range(count)]


def _labels(preprocessor: Preprocessor, samples: Sequence[Any]) -> list[str]:
    """The target of each sample in words; none where a sample has none, or one at each position."""
    import torch

    spec = preprocessor.spec
    if spec.positions or spec.target == "none":
        return [""] * len(samples)
    said = preprocessor.decode_targets(torch.stack([torch.as_tensor(sample[1]) for sample in samples]))
    said = said.tolist() if isinstance(said, torch.Tensor) else said
    return [f"{each:.4g}" if isinstance(each, float) else _text(str(each)) for each in said]


def _page(shown: Sequence[Any], labels: Sequence[str]) -> "Figure":
    """Pictures or texts with their labels."""
    pictured = not isinstance(shown[0], str)
    figure, axes = _panels(len(shown), (1.5, 1.8) if pictured else (3.4, 1.9), ACROSS if pictured else 3)
    for each, sample, label in zip(axes, shown, labels, strict=True):
        each.set(xticks=[], yticks=[])
        each.set_title(label, fontsize=8)
        if pictured:
            picture = sample.permute(1, 2, 0).numpy()
            each.imshow(picture if picture.shape[2] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=255)
        else:
            words = _text(sample, 400)
            lines = [words[start : start + 46] for start in range(0, len(words), 46)]
            each.text(0.03, 0.95, "\n".join(lines), transform=each.transAxes, va="top", fontsize=7)
    return figure


def _columns(rows: Sequence[dict[str, Any]]) -> "Figure":
    """A histogram for each column of numbers, bars for each one of words."""
    names = [*rows[0]]
    shown = names[:MOST_COLUMNS]
    figure, axes = _panels(len(shown), (3.0, 2.3), 4)
    for each, name in zip(axes, shown, strict=True):
        values = [row[name] for row in rows]
        if all(isinstance(value, int | float) for value in values):
            different = len(set(values))
            each.hist(values, bins=min(30, max(5, different)), color=BLUE)
        else:
            counts = {value: values.count(value) for value in dict.fromkeys(map(str, values))}
            most = sorted(counts.items(), key=lambda pair: -pair[1])[:MOST_VALUES]
            each.barh([_text(value, 16) for value, _ in most], [count for _, count in most], color=BLUE)
            each.invert_yaxis()
        each.set_title(_text(name, 28), fontsize=9)
        each.tick_params(labelsize=7)
        each.spines[["top", "right"]].set_visible(False)
    more = f", {len(shown)} of {len(names)} columns" if len(names) > len(shown) else ""
    figure.suptitle(f"training split, {len(rows):,} rows{more}", fontsize="medium")
    return figure


def _panels(count: int, size: tuple[float, float], most: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    across = min(count, most)
    down = -(-count // across)
    figure = Figure(figsize=(max(size[0] * across, 4), size[1] * down + 0.4), layout="constrained")
    return figure, [figure.add_subplot(down, across, place + 1) for place in range(count)]


def _text(text: str, most: int = 24) -> str:
    """One line of printable characters in which no dollar sign begins a formula."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    shown = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    return shown.replace("$", r"\$")
