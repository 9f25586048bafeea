"""Finds pictures and the masks of the same names, in two folders; opens none of them."""

from pathlib import Path
from typing import NamedTuple

from ptb import DataError
from ptb_datasets.folder_scan import SPLITS, Refused, Walk, entries


class Pair(NamedTuple):
    """A picture's file, and its mask's."""

    picture: Path
    mask: Path


class Pairs(NamedTuple):
    """What two folders hold; ``samples`` has all of them under "train" where there are no split folders."""

    samples: dict[str, list[Pair]]
    refused: list[Refused]
    has_split_folders: bool


def find_pairs(pictures: Path, masks: Path, suffix: str, follow_links: bool = False) -> Pairs:
    """Looks at the names of all files.

    Args:
        pictures: a folder of pictures, or of the folders train, val and test.
        masks: the same for the masks.
        suffix: what the name of a mask has after that of its picture.
        follow_links: links may lead out of the folders.

    Raises:
        DataError: there are split folders of pictures without those of masks.
    """
    refused: list[Refused] = []
    mine, theirs = Walk(pictures, follow_links=follow_links), Walk(masks, follow_links=follow_links)
    folders = [Path(entry.path) for entry in entries(mine, pictures, []) if entry.is_dir()]
    names = {folder.name for folder in folders}
    if "train" not in names or not names <= set(SPLITS):
        refused += [Refused(folder, "a folder inside the folder of pictures") for folder in folders]
        return Pairs({"train": _pairs(mine, theirs, pictures, masks, suffix, refused)}, refused, False)
    samples = {}
    for split in (split for split in SPLITS if split in names):
        if not (masks / split).is_dir():
            raise DataError(f"{pictures / split} holds the pictures of a split, and {masks / split} is not there")
        samples[split] = _pairs(mine, theirs, pictures / split, masks / split, suffix, refused)
    return Pairs(samples, refused, True)


def _pairs(
    walk: Walk, masks_walk: Walk, pictures: Path, masks: Path, suffix: str, refused: list[Refused]
) -> list[Pair]:
    mine, theirs = _by_stem(walk, pictures, "", refused), _by_stem(masks_walk, masks, suffix, refused)
    refused += [
        Refused(path, f"no mask {stem}{suffix}.* in {masks}") for stem, path in mine.items() if stem not in theirs
    ]
    refused += [
        Refused(path, f"no picture {stem}.* in {pictures}") for stem, path in theirs.items() if stem not in mine
    ]
    return [Pair(path, theirs[stem]) for stem, path in mine.items() if stem in theirs]


def _by_stem(walk: Walk, folder: Path, suffix: str, refused: list[Refused]) -> dict[str, Path]:
    """The files by the names that pictures and masks share."""
    found: dict[str, Path] = {}
    for entry in entries(walk, folder, refused):
        path = Path(entry.path)
        if entry.is_dir():
            continue
        if not path.stem.endswith(suffix):
            refused.append(Refused(path, f"its name does not end in '{suffix}'"))
            continue
        stem = path.stem.removesuffix(suffix)
        if stem in found:
            refused.append(Refused(path, f"has the name of {found[stem].name}"))
        else:
            found[stem] = path
    return found
