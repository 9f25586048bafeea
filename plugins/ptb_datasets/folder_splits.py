"""What data sets of folders share: which splits are drawn, and what is said of files that are no good."""

import warnings
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Literal

from ptb import ConfigError, DataError
from ptb_datasets.folder_scan import Refused, shown

DEFAULT_FRACTION = 0.15
SHOWN = 10


def fractions_to_draw(
    top: Path,
    there: Mapping[str, Sized],
    has_split_folders: bool,
    fractions: Mapping[str, float | None],
    seed: int,
) -> dict[str, float]:
    """What part of train becomes each split that has no folder.

    Args:
        top: the folder.
        there: the samples of each folder of a split; without such folders all are under ``"train"``.
        has_split_folders: whether there are such folders.
        fractions: as given, None where nothing is: 0.15, or none where there are split folders.
        seed: of the draw, 0 where none is given.

    Raises:
        ConfigError: a fraction is given for a split that has a folder, or a seed and no split is drawn.
        DataError: the folder of a split holds nothing.
    """
    to_draw = {}
    for split, fraction in fractions.items():
        if split not in there:
            to_draw[split] = (0.0 if has_split_folders else DEFAULT_FRACTION) if fraction is None else fraction
        elif fraction is not None:
            raise ConfigError(f"dataset.{split}_fraction: {top / split} is that split; leave the fraction out")
        elif len(there[split]) == 0:
            raise DataError(f"{top / split} holds no pictures that can be used")
    if seed and not any(to_draw.values()):
        raise ConfigError(f"dataset.split_seed={seed}: no split is drawn at random; leave it out")
    return to_draw


def report(top: Path, refused: Sequence[Refused], good: int, on_bad_sample: Literal["error", "skip"]) -> None:
    """Warns of files that are left out, for whoever builds the data set, or stops.

    Raises:
        DataError: ``on_bad_sample`` is ``"error"``.
    """
    lines = [f"{shown(_inside(item.path, top))}: {item.reason}" for item in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"and {len(refused) - SHOWN} more")
    total = good + len(refused)
    count = f"{len(refused)} of {total} file{'s' * (total != 1)} in {top}"
    if on_bad_sample == "skip":
        warnings.warn(f"left out {count}: {'; '.join(lines)}", UserWarning, stacklevel=3)
        return
    remedy = "mend or remove them, or add dataset.on_bad_sample=skip to train on the rest"
    raise DataError("\n  ".join([f"{count} cannot be used:", *lines]) + f"\n{remedy}")


def _inside(path: Path, top: Path) -> Path:
    return path.relative_to(top) if path.is_relative_to(top) else path
