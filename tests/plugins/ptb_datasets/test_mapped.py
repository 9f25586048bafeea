import re
from pathlib import Path

import cv2
import numpy as np
import platformdirs
import pytest

from ptb_datasets import mapped as module
from ptb_datasets.arrays import arrays
from ptb_datasets.image_folder import image_folder
from ptb_datasets.mapped import expect_random_reads, machine_memory, mapped
from ptb_datasets.mnist import mnist

MAPS = Path("/proc/self/smaps")
tells = pytest.mark.skipif(not MAPS.exists(), reason="this system does not tell how memory is mapped")


def map_bytes(path):
    with path.open("rb") as stream:
        return mapped(stream, np.dtype("<u2"), (3, 2), offset=4)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "numbers").write_bytes(bytes(4) + np.arange(6, dtype="<u2").tobytes())
    return tmp_path / "numbers"


def test_values_are_those_of_the_file_and_what_is_written_never_reaches_it(file):
    before, array = file.read_bytes(), map_bytes(file)
    assert array.tolist() == [[0, 1], [2, 3], [4, 5]]
    array += 1
    assert array.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert file.read_bytes() == before
    assert map_bytes(file)[0, 0] == 0


def test_a_file_that_is_too_short_is_refused(file):
    file.write_bytes(bytes(8))
    with pytest.raises(ValueError, match="length"):
        map_bytes(file)


def read_at_random(path):
    """Whether the system was told so of the only mapping of this file."""
    (flags,) = re.findall(rf"{path}\n(?:\w+:.*\n)*?VmFlags: (.*)", MAPS.read_text())
    return "rr" in flags.split()


@tells
@pytest.mark.parametrize(("memory", "random"), [(23.9, True), (24, False)], ids=["large", "small"])
def test_a_file_of_more_than_half_of_the_memory_is_read_without_what_lies_around(file, monkeypatch, memory, random):
    monkeypatch.setattr(module, "machine_memory", lambda: memory)
    array = map_bytes(file)
    expect_random_reads(array)
    assert read_at_random(file) == random
    assert array[2, 1] == 5


def make_arrays(folder):
    np.save(folder / "x.npy", np.zeros((60, 2), np.float32))
    np.save(folder / "y.npy", np.arange(60) % 3)
    return arrays(inputs=str(folder / "x.npy"), targets=str(folder / "y.npy")), folder / "x.npy"


def make_idx(folder):
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3, *(0, 0, 0, 10) * 3)) + bytes(1000))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 10)) + bytes(range(10)))
    return mnist(root=str(folder), val_size=0), folder / "train-images-idx3-ubyte"


def make_pictures(folder):
    paths = [folder / "top" / "ab"[number % 2] / f"{number}.png" for number in range(20)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A picture written anew has another time, and would be decoded anew.
        assert path.exists() or cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    bundle = image_folder(root=str(folder / "top"), cache=True)
    (cached,) = (folder / "ptb" / "image-folder").glob("*.npy")
    return bundle, cached


@tells
@pytest.mark.parametrize("make", [make_arrays, make_idx, make_pictures])
def test_every_data_set_that_is_mapped_tells_that_it_is_shuffled(tmp_path, monkeypatch, make):
    monkeypatch.setattr(module, "machine_memory", lambda: 0)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    for _ in range(2):  # of pictures, the second time comes from the cache
        bundle, path = make(tmp_path)
        assert len(bundle.train)
        assert read_at_random(path)
        del bundle


def test_arrays_in_memory_are_left_alone(monkeypatch):
    monkeypatch.setattr(module, "machine_memory", lambda: 0)
    expect_random_reads(np.zeros(3))
    expect_random_reads(np.zeros(3)[1:])


def test_the_machine_has_some_memory():
    assert 1 << 28 < machine_memory() < 1 << 50
