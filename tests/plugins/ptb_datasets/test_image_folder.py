import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import time
import warnings
import zlib

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ptb import ConfigError, DataError
from ptb.data.sources import InMemorySamples
from ptb_datasets import image_folder as module
from ptb_datasets.image_folder import image_folder
from ptb_datasets.picture_file import opencv


def picture(seed=0, height=9, width=7):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture() if pixels is None else pixels)
    return path


def folder(top, counts, suffix=".png", first=0):
    """``counts`` pictures for each class, each one with its own number as the colour of all its pixels."""
    number = first
    for name, count in counts.items():
        for _ in range(count):
            save(top / name / f"{number:03d}{suffix}", np.full((4, 4, 3), number, np.uint8))
            number += 1
    return top


def build(top, **settings):
    return image_folder(root=str(top), **{"size": 4, **settings})


def numbers(split):
    return [int(split[index][0][0, 0, 0]) for index in range(len(split))]


def labels(split):
    return [int(split[index][1]) for index in range(len(split))]


@pytest.fixture
def little_memory(monkeypatch):
    """None of the machine's memory may be used to keep pictures."""
    monkeypatch.setattr(module, "KEPT_SHARE", 0)


def png(width, height, rows=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [("colour", 3), ("grey", 1)])
@pytest.mark.parametrize(("size", "shape"), [(8, (8, 8)), ((6, 10), (6, 10))], ids=["int", "pair"])
def test_samples_have_the_shapes_and_dtypes_of_the_spec(tmp_path, colour, channels, size, shape):
    bundle = build(folder(tmp_path, {"dog": 10, "cat": 20}), colour=colour, size=size)
    spec = bundle.spec
    assert (spec.inputs, spec.target, spec.output_size) == ("image", "class", 2)
    assert spec.input_shape == (channels, *shape)
    assert spec.class_names == ("cat", "dog")
    assert spec.class_counts == tuple(np.bincount(labels(bundle.train)).tolist())
    inputs, target = bundle.train[0]
    assert (inputs.dtype, inputs.shape) == (torch.uint8, (channels, *shape))
    assert (target.dtype, target.shape) == (torch.int64, ())
    batch = torch.stack([inputs, inputs])
    torch.testing.assert_close(bundle.transform(batch), (batch / 255 - 0.5) / 0.5)


def test_colours_are_red_green_blue(tmp_path):
    top = folder(tmp_path, {"a": 4, "b": 4})
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue, green, red
    save(top / "a" / "000.png", red)
    split = build(top, val_fraction=0, test_fraction=0).train
    assert split[0][0].flatten(1).unique(dim=1).flatten().tolist() == [255, 0, 0]


def test_pixels_are_those_of_the_file_and_resizing_keeps_the_mean(tmp_path):
    pixels = picture(3, 12, 8)
    top = folder(tmp_path, {"a": 4, "b": 4})
    save(top / "a" / "000.png", pixels)
    options = {"val_fraction": 0, "test_fraction": 0}
    assert np.array_equal(build(top, size=(12, 8), **options).train[0][0].permute(1, 2, 0).numpy()[..., ::-1], pixels)
    small = build(top, size=(3, 2), **options).train[0][0].float()
    wanted = torch.from_numpy(pixels[..., ::-1].copy()).float().view(3, 4, 2, 4, 3).mean((1, 3)).permute(2, 0, 1)
    assert (small - wanted).abs().max() <= 1
    assert build(top, size=40, **options).train[0][0].shape == (3, 40, 40)


def test_splits_are_stratified_disjoint_and_complete_and_depend_on_the_seed_alone(tmp_path):
    top = folder(tmp_path, {"a": 20, "b": 40})
    bundle = build(top, val_fraction=0.2, test_fraction=0.1)
    assert {name: np.bincount(labels(split)).tolist() for name, split in bundle.splits.items()} == {
        "train": [14, 28],
        "val": [4, 8],
        "test": [2, 4],
    }
    everything = [number for split in bundle.splits.values() for number in numbers(split)]
    assert sorted(everything) == list(range(60))
    np.random.seed(5)
    again = build(top, val_fraction=0.2, test_fraction=0.1)
    other = build(top, val_fraction=0.2, test_fraction=0.1, split_seed=1)
    assert numbers(again.val) == numbers(bundle.val)
    assert numbers(other.val) != numbers(bundle.val)


def test_a_fraction_of_0_makes_no_split(tmp_path):
    bundle = build(folder(tmp_path, {"a": 3, "b": 3}), val_fraction=0, test_fraction=0)
    assert (len(bundle.train), bundle.val, bundle.test) == (6, None, None)


def test_split_folders_are_the_splits(tmp_path):
    folder(tmp_path / "train", {"a": 3, "b": 4})
    folder(tmp_path / "val", {"a": 1, "b": 2}, first=50)
    folder(tmp_path / "test", {"b": 2}, first=90)
    bundle = build(tmp_path)
    assert numbers(bundle.train) == list(range(7))
    assert numbers(bundle.val) == [50, 51, 52]
    assert (numbers(bundle.test), labels(bundle.test)) == ([90, 91], [1, 1])
    assert bundle.spec.class_counts == (3, 4)


def test_with_split_folders_nothing_is_drawn_unless_it_is_asked_for(tmp_path):
    folder(tmp_path / "train", {"a": 10, "b": 10})
    folder(tmp_path / "test", {"a": 2, "b": 2}, first=50)
    assert list(build(tmp_path).splits) == ["train", "test"]
    bundle = build(tmp_path, val_fraction=0.2)
    assert (len(bundle.train), len(bundle.val), numbers(bundle.test)) == (16, 4, [50, 51, 52, 53])
    with pytest.raises(ConfigError, match=r"dataset\.test_fraction: .*test is that split"):
        build(tmp_path, test_fraction=0.2)
    with pytest.raises(ConfigError, match=r"dataset\.split_seed=3: no split is drawn"):
        build(tmp_path, split_seed=3)
    build(tmp_path, split_seed=3, val_fraction=0.2)


def test_train_may_be_the_name_of_a_class(tmp_path):
    bundle = build(folder(tmp_path, {"train": 10, "bus": 10}))
    assert bundle.spec.class_names == ("bus", "train")
    assert len(bundle.val) == 3


def test_hidden_files_and_notes_beside_the_classes_are_ignored(tmp_path):
    top = folder(tmp_path, {"a": 10, "b": 10})
    (top / "a" / ".DS_Store").write_bytes(b"x")
    (top / ".git").mkdir()
    (top / "README.txt").write_text("about these pictures")
    assert build(top, val_fraction=0, test_fraction=0).spec.class_counts == (10, 10)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp", ".webp", ".tif", ".ppm", ".PNG"])
def test_kinds_of_pictures(tmp_path, suffix):
    assert build(folder(tmp_path, {"a": 4, "b": 4}, suffix), val_fraction=0, test_fraction=0).spec.class_counts == (
        4,
        4,
    )


def test_names_in_any_language(tmp_path):
    top = folder(tmp_path, {"a": 4, "b": 4})
    (top / "a" / "000.png").rename(top / "a" / "\u732b \u00fc.png")
    (top / "b").rename(top / "\u72d7")
    bundle = build(top, val_fraction=0, test_fraction=0)
    assert bundle.spec.class_names == ("a", "\u72d7")
    assert sorted(numbers(bundle.train)) == list(range(8))


GOOD = cv2.imencode(".png", picture(0, 40, 40))[1].tobytes()
JPEG = cv2.imencode(".jpg", picture(0, 40, 40))[1].tobytes()
BAD_FILES = {
    "empty": ("x.png", b"", "empty"),
    "text": ("x.png", b"hello there", "no known kind of picture"),
    "html": ("x.jpg", b"<html>404</html>", "no known kind of picture"),
    "noise": ("x.jpg", np.random.RandomState(0).bytes(500), "no known kind of picture"),
    "zeros": ("x.bmp", bytes(500), "no known kind of picture"),
    "gif": ("x.png", b"GIF89a" + bytes(50), "no known kind of picture"),
    "only-signature": ("x.png", GOOD[:8], "no known kind of picture"),
    "png-header-only": ("x.png", GOOD[:33], "cannot be decoded"),
    "png-cut": ("x.png", GOOD[: len(GOOD) // 2], "cannot be decoded"),
    "png-checksum": ("x.png", GOOD[:2000] + b"\0\0\0" + GOOD[2003:], "cannot be decoded"),
    "png-no-width": ("x.png", png(0, 5), "no known kind of picture"),
    "png-no-rows": ("x.png", png(5, 5), "cannot be decoded"),
    "jpeg-cut": ("x.jpg", JPEG[: len(JPEG) // 2], "cannot be decoded: it is cut short"),
    "jpeg-without-end": ("x.jpg", JPEG[:-2], "cannot be decoded: it is cut short"),
    "jpeg-header-only": ("x.jpg", JPEG[:20], "no known kind of picture"),
    "too-many-pixels": ("x.png", png(101, 100), r"too many pixels: 101 x 100; dataset\.max_pixels=10000"),
    "bomb": ("x.png", png(60_000, 60_000, bytes(100_000)), "too many pixels: 60,000 x 60,000"),
    "huge-claim": ("x.png", png(2**32 - 1, 2**32 - 1), "too many pixels: 4,294,967,295 x 4,294,967,295"),
    "huge-bmp": ("x.bmp", b"BM" + bytes(12) + struct.pack("<Iii", 40, 2**31 - 1, -(2**31)), "too many pixels"),
    "too-many-bytes": ("x.png", GOOD + bytes(2 * 2**20), "bytes are more than 10,000 pixels can need"),
    "text-by-name": ("notes.txt", b"hello", r"not a picture by its name; valid are \.avif"),
    "no-suffix": ("picture", GOOD, "not a picture by its name"),
    "zip": ("x.zip", b"PK", "not a picture by its name"),
}


@pytest.mark.parametrize(("name", "content", "reason"), BAD_FILES.values(), ids=BAD_FILES)
@pytest.mark.parametrize("share", [0.25, 0], ids=["kept", "read"])
def test_a_bad_file_is_named_with_its_reason_or_skipped(tmp_path, monkeypatch, name, content, reason, share):
    monkeypatch.setattr(module, "KEPT_SHARE", share)
    top = folder(tmp_path, {"a": 4, "b": 4})
    (top / "b" / name).write_bytes(content)
    options = {"max_pixels": 10_000, "val_fraction": 0, "test_fraction": 0}
    with pytest.raises(DataError, match=f"(?s)1 of 9 files in .* cannot be used:\n  b/{name}: .*{reason}.*=skip"):
        build(top, **options)
    with pytest.warns(UserWarning, match=f"left out 1 of 9 files in .*b/{name}: .*{reason}") as caught:
        bundle = build(top, on_bad_sample="skip", **options)
    assert len(caught) == 1
    assert bundle.spec.class_counts == (4, 4)
    assert sorted(numbers(bundle.train)) == list(range(8))


def make_fifo(place):
    os.mkfifo(place / "x.png")


def make_link_out(place):
    outside = save(place.parent.parent / "outside" / "y.png")
    (place / "x.png").symlink_to(outside)


def make_broken_link(place):
    (place / "x.png").symlink_to(place / "nothing.png")


def make_loop(place):
    (place / "x.png").symlink_to(place / "x.png")


def make_folder(place):
    save(place / "x.png" / "inner.png")


def make_stray(place):
    save(place.parent / "x.png")


PLACES = {
    "fifo": (make_fifo, "b/x.png: not a file"),
    "link-out": (make_link_out, r"b/x.png: a link that leads out of"),
    "broken-link": (make_broken_link, "b/x.png: a link to nothing"),
    "loop": (make_loop, "b/x.png: a link to nothing"),
    "folder": (make_folder, "b/x.png: a folder inside the folder of a class"),
    "stray": (make_stray, "x.png: lies in no folder of a class"),
}


@pytest.mark.parametrize(("make", "reason"), PLACES.values(), ids=PLACES)
def test_what_is_no_file_of_a_class_is_named(tmp_path, make, reason):
    top = folder(tmp_path / "top", {"a": 4, "b": 4})
    make(top / "b")
    with pytest.raises(DataError, match=f"1 of 9 files in (.|\n)*{reason}"):
        build(top)


def test_a_class_that_is_a_link_out_is_named_and_one_inside_is_followed(tmp_path):
    top = folder(tmp_path / "top", {"a": 10, "b": 10})
    folder(tmp_path, {"outside": 10})
    (top / "c").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="c: a link that leads out of"):
        build(top)
    (top / "c").unlink()
    (top / "a" / "again.png").symlink_to(top / "a" / "000.png")
    assert build(top, val_fraction=0, test_fraction=0).spec.class_counts == (11, 10)
    (tmp_path / "link").symlink_to(top)
    assert build(tmp_path / "link", val_fraction=0, test_fraction=0).spec.class_counts == (11, 10)


def test_skipping_must_leave_pictures_of_every_class(tmp_path):
    top = folder(tmp_path, {"a": 4, "b": 4})
    for path in (*(top / "a").iterdir(), *(top / "b").iterdir()):
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="left out 8 of 8"),
        pytest.raises(DataError, match="'a' has no picture that can be used"),
    ):
        build(top, on_bad_sample="skip")


def test_ten_bad_files_are_shown_and_the_others_counted(tmp_path):
    top = folder(tmp_path, {"a": 4, "b": 4})
    for number in range(13):
        (top / "a" / f"bad{number:02d}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        build(top)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("13 of 21 files")
    assert [line.strip() for line in lines[1:11]] == [f"a/bad{number:02d}.png: empty" for number in range(10)]
    assert lines[11].strip() == "and 3 more"


def nothing(top):
    top.mkdir()


def one_class(top):
    folder(top, {"a": 9})


def an_empty_class(top):
    folder(top, {"a": 9})
    (top / "b").mkdir()


def a_class_that_train_lacks(top):
    folder(top / "train", {"a": 2, "b": 2})
    folder(top / "val", {"c": 2})


def an_empty_split(top):
    folder(top / "train", {"a": 2, "b": 2})
    (top / "val").mkdir()


def a_file(top):
    top.write_text("")


LAYOUTS = {
    "missing": (lambda top: None, "is not there"),
    "a-file": (a_file, "is no folder"),
    "nothing": (nothing, "a folder of pictures for each of 2 classes at least, and holds none"),
    "one-class": (one_class, "a folder of pictures for each of 2 classes at least, and holds 1"),
    "empty-class": (
        an_empty_class,
        "the class 'b' has no picture that can be used",
    ),
    "unknown-class": (a_class_that_train_lacks, "'val' has the class .*c, which 'train' does not have"),
    "empty-split": (an_empty_split, "val holds no pictures"),
}


@pytest.mark.parametrize(("make", "message"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_folder_that_holds_no_data_set_is_refused(tmp_path, make, message):
    make(tmp_path / "top")
    with pytest.raises(DataError, match=message):
        build(tmp_path / "top")


def test_a_rare_class_is_trained_on_and_said_to_be_rare(tmp_path):
    folder(tmp_path / "top", {"a": 20, "b": 1})
    with pytest.warns(UserWarning, match=r"a class has too few samples to be in every split: 'b' \(1\)"):
        bundle = build(tmp_path / "top")
    assert bundle.spec.class_counts[1] == 1
    assert sum(int(bundle.val[row][1]) for row in range(len(bundle.val))) == 0


@pytest.mark.parametrize("root", ["~no-such-user-here/x", "nul\0byte"], ids=["home", "nul"])
def test_a_name_that_cannot_be_is_a_data_error(root):
    with pytest.raises(DataError, match=r"dataset\.root="):
        image_folder(root=root)


def test_a_root_is_required(built_in):
    with pytest.raises(ConfigError, match=r"dataset\.root: is required"):
        built_in.build("dataset", "image-folder")


def test_a_name_that_a_terminal_should_not_see_is_escaped(tmp_path):
    top = folder(tmp_path, {"a": 4, "b": 4})
    (top / "a" / "\x1b[2J.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"x1b\[2J\.png': empty") as caught:
        build(top)
    assert "\x1b" not in str(caught.value)


def test_only_reading_headers_finds_what_headers_show_and_tells_the_rest_when_it_is_read(tmp_path):
    top = folder(tmp_path, {"a": 4, "b": 4})
    (top / "a" / "000.png").write_bytes(GOOD[: len(GOOD) // 2])
    split = build(top, check="header", val_fraction=0, test_fraction=0).train
    with pytest.raises(DataError, match=r"000\.png: cannot be decoded"):
        split[0]
    (top / "a" / "001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/001\.png: empty"):
        build(top, check="header")


def test_a_file_that_goes_away_later_is_named(tmp_path, little_memory):
    top = folder(tmp_path, {"a": 4, "b": 4})
    split = build(top, val_fraction=0, test_fraction=0).train
    (top / "a" / "000.png").unlink()
    with pytest.raises(DataError, match=r"a/000\.png: cannot be read: No such file"):
        split[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_workers_read_the_same_samples(tmp_path, little_memory, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    split = build(folder(tmp_path, {"a": 8, "b": 8}), size=9, val_fraction=0, test_fraction=0).train
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns where threads are forked
        loader = DataLoader(split, batch_size=4, num_workers=2, multiprocessing_context=method)
        inputs, targets = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(inputs, torch.stack([split[index][0] for index in range(16)]))
    assert targets.tolist() == labels(split)


def test_pictures_are_kept_as_long_as_they_need_no_more_than_their_share_of_the_memory(tmp_path, monkeypatch):
    top = folder(tmp_path, {"a": 4, "b": 6})
    monkeypatch.setattr(module, "machine_memory", lambda: 4 * 10 * 3 * 4 * 4)
    kept = build(top, val_fraction=0.2, test_fraction=0)
    assert InMemorySamples.of(kept.train).tensors.inputs is InMemorySamples.of(kept.val).tensors.inputs
    monkeypatch.setattr(module, "machine_memory", lambda: 4 * 10 * 3 * 4 * 4 - 1)
    read = build(top, val_fraction=0.2, test_fraction=0)
    assert InMemorySamples.of(read.train) is InMemorySamples.of(read.val) is None
    assert InMemorySamples.of(build(top, check="header").train) is None


def test_a_split_that_is_read_survives_pickling(tmp_path, little_memory):
    split = build(folder(tmp_path, {"a": 4, "b": 4}), val_fraction=0, test_fraction=0).train
    assert numbers(pickle.loads(pickle.dumps(split))) == numbers(split)


def test_opencv_s_own_limit_is_set_before_it_is_imported_and_its_threads_are_off():
    code = (
        "import os, sys\nfrom ptb_datasets.picture_file import opencv\nassert 'cv2' not in sys.modules\n"
        "cv2 = opencv(1234)\nprint(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'], cv2.getNumThreads())\n"
        "import numpy as np\npicture = cv2.imencode('.png', np.zeros((40, 40), np.uint8))[1]\n"
        "try:\n    print(cv2.imdecode(picture, 1))\nexcept cv2.error:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["1234", "1"]
    assert done.stdout.split()[2] in ("refused", "None")


def test_a_bad_file_is_told_without_noise_from_opencv(tmp_path, capfd):
    assert opencv(100).getNumThreads() == 1
    (folder(tmp_path, {"a": 4, "b": 4}) / "a" / "x.tif").write_bytes(b"II*\0\x08\0\0\0" + bytes(30))
    with pytest.raises(DataError, match=r"x\.tif"):
        build(tmp_path)
    assert "WARN" not in capfd.readouterr().err


def test_checking_2000_pictures_is_quick(tmp_path):
    content = cv2.imencode(".jpg", picture(0, 64, 64))[1].tobytes()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(1000):
            (tmp_path / name / f"{number}.jpg").write_bytes(content)
    start = time.perf_counter()
    bundle = build(tmp_path)
    assert time.perf_counter() - start < 10
    assert len(bundle.train) == 1400


@pytest.mark.parametrize("names", [("train", "valid", "Test"), ("Train", "val"), ("training", "validation")], ids=str)
def test_splits_may_have_the_other_names_that_people_give_them(tmp_path, names):
    for number, name in enumerate(names):
        folder(tmp_path / name, {"a": 3, "b": 3}, first=10 * number)
    bundle = build(tmp_path)
    assert list(bundle.splits) == ["train", "val", "test"][: len(names)]
    assert [numbers(split)[0] for split in bundle.splits.values()] == [0, 10, 20][: len(names)]


def test_classes_may_be_called_like_other_names_of_splits(tmp_path):
    assert build(folder(tmp_path, {"Train": 8, "valid": 8})).spec.class_names == ("Train", "valid")


def test_a_class_that_is_a_link_out_of_the_folder_is_told(tmp_path):
    folder(tmp_path / "elsewhere", {"a": 3, "b": 3})
    for name in ("a", "b"):
        (tmp_path / "top").mkdir(exist_ok=True)
        (tmp_path / "top" / name).symlink_to(tmp_path / "elsewhere" / name)
    with pytest.raises(DataError, match=r"and holds none.*top/a: a link that leads out of .*; copy what it points to"):
        build(tmp_path / "top")


def test_what_file_managers_leave_is_no_picture(tmp_path):
    top = folder(tmp_path, {"a": 8, "b": 8})
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (top / "a" / name).write_bytes(b"x")
    assert sum(len(split) for split in build(top).splits.values()) == 16


def test_a_picture_that_only_its_header_was_read_of_is_told_with_the_check(tmp_path):
    top = folder(tmp_path, {"a": 8, "b": 8})
    for path in top.glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:60])
    split = build(top, check="header", on_bad_sample="skip").train
    with pytest.raises(DataError, match=r"cannot be decoded; dataset\.check=decode finds this at the start"):
        split[0]
