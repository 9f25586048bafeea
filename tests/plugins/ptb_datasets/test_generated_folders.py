"""Fifty folders as people have them, made from clean ones: each gives the same data, or says what to type for it."""

import random
import re
import shlex
import shutil
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ptb import PtbError
from ptb.config.layers import parse_override
from ptb_datasets import image_folder as module
from ptb_datasets.folder_scan import Walk
from ptb_datasets.image_folder import image_folder
from ptb_datasets.picture_settings import ImageFolder

CLASSES = ["1", "2", "10", "heron"]
SIDE = 6
SAME = {"size": SIDE, "val_fraction": 0, "test_fraction": 0}
HINT = re.compile(r"dataset\.\w+=(?:'[^']*'(?:\"'\"'[^']*')*|[^\s;,]+)")
FORMATS = [".png", ".bmp", ".tiff", ".ppm", ".PNG", ".TIF", ".webp"]
NAMES = [
    "{}",
    "picture {}",
    "ünïcode-{}",
    "(copy) {}",
    "a'b {}",
    "semi;colon,{}",
    "--{}",
    "dot.in.{}",
    "\u732b{}",
    "$HOME {}",
]


def pictures():
    """Three pictures of each class, uint8 ``[6, 6, 3]``, with white paper in a corner."""
    rng = np.random.RandomState(0)
    made = {name: [rng.randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8) for _ in range(3)] for name in CLASSES}
    for each in made.values():
        for picture in each:
            picture[:2, :3] = 255
    return made


def write(path, picture, suffix):
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    done, data = cv2.imencode(suffix.lower(), picture, lossless)
    assert done
    path.with_name(path.name + suffix).write_bytes(data.tobytes())


class Maker:
    """Makes one folder from the clean pictures; ``root`` is what a user would name."""

    def __init__(self, top, seed):
        self.random = random.Random(seed)
        self.root = top / "data"
        self.outside = top / "elsewhere"
        self.name = self.random.choice(NAMES)
        self.suffix = self.random.choice(FORMATS)
        self.splits = self.random.random() < 0.3
        self.table = not self.splits and self.random.random() < 0.2
        self.depth = self.random.choice(["eight", "eight", "eight", "twelve", "opaque", "transparent"])
        self.nested = not self.table and self.random.random() < 0.25
        self.linked = not self.table and self.random.random() < 0.2
        self.wrapped = not self.table and self.random.random() < 0.15
        self.settings = {}

    def make(self):
        top = self.root / "wrapped in one" if self.wrapped else self.root
        rows = []
        places = ["train"] if self.splits else ["."]
        if self.splits and not self.linked:
            places.append(self.random.choice(["val", "valid", "validation", "test"]))
        for label, each in pictures().items():
            for number, picture in enumerate(each):
                for split in places:
                    name = self.name.format(number)
                    if self.table:
                        name = f"{label}-{name}"
                        rows.append((name + self._suffix(), label))
                        place = top / "files" / name
                    else:
                        inner = f"batch {number % 2}" if self.nested else "."
                        place = top / split / label / inner / name
                    self._picture(place, picture)
        self._litter(top)
        if self.table:
            self._table(rows)
            self.root = top / "files"
        elif self.linked:
            label = top / ("train" if self.splits else ".") / "heron"
            shutil.move(label, self.outside)
            label.symlink_to(self.outside)
        return self

    def _suffix(self):
        return ".png" if self.depth != "eight" else self.suffix

    def _picture(self, path, picture):
        if self.depth == "twelve":
            picture = picture.astype(np.uint16) * 10 + 100  # 100 to 2650
        elif self.depth != "eight":
            alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
            picture = np.concatenate([picture, alpha], 2)
            if self.depth == "transparent":  # the colours below are gone, so only white paper gives the clean picture
                hidden = (picture[..., :3] == 255).all(2)
                picture[hidden] = (0, 0, 0, 0)
        write(path, picture, self._suffix())

    def _litter(self, top):
        for name in self.random.sample(
            ["__MACOSX/1/._0.png", "Thumbs.db", ".DS_Store", "desktop.ini", "@eaDir/0.png/x.jpg"], 3
        ):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(b"\0\5\26\7")
        if not self.table:
            for folder in [
                path for path in top.rglob("*") if path.is_dir() and path.name in CLASSES and "__" not in str(path)
            ]:
                (folder / self.random.choice(["Thumbs.db", "._0.png", ".DS_Store"])).write_bytes(b"litter")

    def _table(self, rows):
        columns = self.random.choice([("file", "label"), ("image", "class")])
        separator = self.random.choice([",", ";", "\t"])
        self.random.shuffle(rows)
        quoted = [f'"{file}"{separator}{label}' for file, label in rows]
        path = self.root.parent / "labels.csv"
        path.write_text(
            "\n".join([separator.join(columns), *quoted]) + "\n", encoding=self.random.choice(["utf-8", "utf-8-sig"])
        )
        self.settings["labels"] = str(path)


def build(root, settings):
    """A data set from settings as the command line would check them; what it says is added to the message."""
    checked = ImageFolder.model_validate({"root": str(root), "size": SIDE, **settings})
    given = {name: getattr(checked, name) for name in checked.model_fields_set}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bundle = image_folder(**given)
    return bundle, [str(warning.message) for warning in caught]


def follow(root, settings):
    """Builds, and follows the first hint of each message as a shell and the command line would read it."""
    typed = []
    for _ in range(6):
        try:
            bundle, said = build(root, {"root": str(root), **settings})
        except PtbError as error:
            bundle, said = None, [str(error)]
        hints = [hint for sentence in said for hint in HINT.findall(sentence)]
        if not hints:
            assert bundle is not None, said
            return bundle, typed
        (word,) = shlex.split(hints[0])
        (section, key), value = parse_override(word)
        assert section == "dataset"
        assert typed.count(key) < 1, f"{hints[0]} did not help: {said}"
        typed.append(key)
        settings = {**settings, key: value}
    raise AssertionError(f"no end of hints: {typed}")


def samples(split):
    """Pictures and class names' numbers, in an order of their own."""
    read = [split[row] for row in range(len(split))]
    return sorted((bytes(picture.numpy().tobytes()), int(label)) for picture, label in read)


@pytest.fixture(scope="module")
def clean():
    wanted = {name: number for number, name in enumerate(CLASSES)}
    rgb = [(p[..., ::-1].transpose(2, 0, 1), wanted[name]) for name, each in pictures().items() for p in each]
    return sorted((np.ascontiguousarray(picture).tobytes(), label) for picture, label in rgb)


@pytest.mark.parametrize("seed", range(50))
def test_a_folder_gives_the_clean_pictures_or_says_what_to_type(tmp_path, clean, seed):
    made = Maker(tmp_path, seed).make()
    plain = {} if made.splits else {"val_fraction": 0, "test_fraction": 0}
    bundle, typed = follow(made.root, {**made.settings, **plain})
    assert bundle.spec.class_names == tuple(CLASSES)
    got = samples(bundle.train)
    if (
        made.depth == "twelve"
    ):  # the range of the values that there are is a little narrower than that of the clean ones
        assert "value_range" in typed
        assert [label for _, label in sorted(got, key=lambda pair: pair[1])] == [
            label for _, label in sorted(clean, key=lambda pair: pair[1])
        ]
        near = [np.frombuffer(picture, np.uint8).astype(int) for picture, _ in got]
        for picture, _ in clean:
            assert min(np.abs(np.frombuffer(picture, np.uint8) - each).max() for each in near) <= 2
    else:
        assert got == clean
    assert ("background" in typed) == (made.depth == "transparent")
    if made.nested:
        assert "recursive" in typed
    if made.linked:
        assert "follow_links" in typed


def test_the_generator_makes_every_kind():
    makers = [Maker(Path("x"), seed) for seed in range(50)]
    for attribute in ("splits", "table", "nested", "linked", "wrapped"):
        assert {getattr(maker, attribute) for maker in makers} == {True, False}
    assert {maker.depth for maker in makers} == {"eight", "twelve", "opaque", "transparent"}
    assert len({maker.suffix for maker in makers}) == len(FORMATS)


def test_a_hint_that_did_nothing_would_be_found(tmp_path, monkeypatch):
    made = Maker(tmp_path, next(seed for seed in range(50) if Maker(tmp_path, seed).nested)).make()
    monkeypatch.setattr(module, "Walk", lambda top, recursive, follow_links: Walk(top, False, follow_links))
    with pytest.raises(AssertionError):
        follow(made.root, {"val_fraction": 0, "test_fraction": 0, **made.settings})


def test_a_zip_of_a_mac_unpacked(tmp_path, clean):
    made = Maker(tmp_path, 0)
    made.splits = made.table = made.nested = made.linked = made.wrapped = False
    made.depth = "eight"
    made.make()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in sorted(made.root.rglob("*")):
            archive.write(path, path.relative_to(made.root))
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    bundle, typed = follow(tmp_path / "unpacked", {"val_fraction": 0, "test_fraction": 0})
    assert typed == []
    assert samples(bundle.train) == clean
    assert torch.is_tensor(bundle.train[0][0])
