import os
import shutil
import sys
import threading
import time

import cv2
import numpy as np
import platformdirs
import pytest
import torch

from ptb import ConfigError, DataError, StorageError
from ptb.data.loader import BatchLoader
from ptb.data.sources import InMemorySamples, make_sources
from ptb_datasets import image_folder as module
from ptb_datasets import picture_cache, picture_file
from ptb_datasets.image_folder import image_folder
from ptb_datasets.picture_cache import AT_ONCE, TASKS_AHEAD, in_threads

CPU = torch.device("cpu")


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "caches" / name)
    return tmp_path / "caches" / "ptb" / "image-folder"


@pytest.fixture
def top(tmp_path):
    """Twelve pictures of three forms in each of two classes, and a file that is none."""
    random = np.random.RandomState(0)
    for name in ("a", "b"):
        (tmp_path / "top" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.randint(0, 256, (9 + number, 7, 3)).astype(np.uint8)
            assert cv2.imwrite(
                str(tmp_path / "top" / name / f"{number}{['.png', '.jpg', '.webp'][number % 3]}"), pixels
            )
    (tmp_path / "top" / "a" / "bad.png").write_bytes(b"hello")
    return tmp_path / "top"


@pytest.fixture
def decodings(monkeypatch):
    """A list that grows by one whenever a picture is decoded."""
    calls, decode = [], picture_file.decode
    monkeypatch.setattr(picture_file, "decode", lambda *given: (calls.append(1), decode(*given))[1])
    return calls


def build(top, *, skip=True, **settings):
    if not skip:
        return image_folder(root=str(top), **{"size": (6, 5), "split_seed": 2, **settings})
    with pytest.warns(UserWarning, match="left out 1 of 25 files in .*a/bad.png: cannot be decoded: its first bytes"):
        return build(top, skip=False, on_bad_sample="skip", **settings)


def batches(bundle, workers=0):
    sources = make_sources(bundle.splits, CPU, num_workers=workers)
    return {
        name: list(BatchLoader(source, batch_size=5, seed=1, shuffle=True).epoch()) for name, source in sources.items()
    }


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        torch.equal(a, b)
        for name in ours
        for one, other in zip(ours[name], theirs[name], strict=True)
        for a, b in zip(one.tensors(), other.tensors(), strict=True)
    )


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("colour", ["colour", "grey"])
def test_batches_are_the_same_kept_read_and_cached(top, caches, monkeypatch, decodings, colour):
    kept = build(top, colour=colour)
    ways = {"cold": build(top, colour=colour, cache=True)}
    assert len(decodings) == 2 * 24
    ways["warm"] = build(top, colour=colour, cache=True)
    assert len(decodings) == 2 * 24
    assert all(InMemorySamples.of(bundle.train) for bundle in (kept, *ways.values()))
    expected = batches(kept)
    assert sum(batch.size for split in expected.values() for batch in split) == 24
    assert all(same(batches(bundle), expected) for bundle in ways.values())
    assert len(decodings) == 2 * 24
    monkeypatch.setattr(module, "KEPT_SHARE", 0)
    read = build(top, colour=colour)
    assert InMemorySamples.of(read.train) is None
    assert all(same(batches(read, workers), expected) for workers in (0, 2))
    assert same(batches(build(top, colour=colour, check="header")), expected)


def test_a_cache_is_mapped_and_not_kept_in_memory_however_little_there_is(top, caches, monkeypatch):
    monkeypatch.setattr(module, "KEPT_SHARE", 0)
    assert InMemorySamples.of(build(top, cache=True).train) is not None
    inputs = InMemorySamples.of(build(top, cache=True).train).tensors.inputs
    file = next(caches.glob("*.npy"))
    before = file.read_bytes()
    inputs += 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_bad_files_stop_a_run_with_a_cache_too(top, caches, warm):
    if warm:
        build(top, cache=True)
    with pytest.raises(DataError, match=r"1 of 25 files in (.|\n)*a/bad\.png: cannot be decoded"):
        build(top, skip=False, cache=True)


def change(path):
    assert cv2.imwrite(str(path), np.zeros((30, 20, 3), np.uint8))


def touch(path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def add(path):
    change(path.with_name("another.png"))


def remove(path):
    path.unlink()


def rename(path):
    path.rename(path.with_name("3x.png"))  # in the same place of the list


@pytest.mark.parametrize("alter", [change, touch, add, remove, rename])
def test_a_folder_that_is_altered_gets_another_cache_and_the_old_one_stays(top, caches, alter):
    (top / "a" / "bad.png").unlink()
    build(top, skip=False, cache=True)
    (old,) = caches.glob("*.npy")
    alter(top / "a" / "3.png")
    altered = build(top, skip=False, cache=True)
    assert len({*caches.glob("*.npy")} - {old}) == 1
    assert old.exists()
    assert same(batches(altered), batches(build(top, skip=False)))


@pytest.mark.parametrize("settings", [{"size": 6}, {"colour": "grey"}, {"max_pixels": 10_000}], ids=str)
def test_other_forms_have_caches_of_their_own(top, caches, settings):
    build(top, cache=True)
    assert same(batches(build(top, cache=True, **settings)), batches(build(top, **settings)))
    assert len([*caches.glob("*.npy")]) == 2


def test_another_opencv_decodes_anew(top, caches, monkeypatch):
    build(top, cache=True)
    monkeypatch.setattr(cv2, "__version__", "0.0")
    build(top, cache=True)
    assert len([*caches.glob("*.npy")]) == 2


def test_splits_and_a_folder_that_was_moved_share_a_cache(top, caches, decodings):
    build(top, cache=True)
    top.rename(top.with_name("moved"))
    build(top.with_name("moved"), cache=True, val_fraction=0.2, split_seed=9)
    assert len(decodings) == 24


def cut(pixels, _):
    os.truncate(pixels, pixels.stat().st_size - 1)


def lengthen(pixels, _):
    with pixels.open("ab") as stream:
        stream.write(b"x")


def of_another_shape(pixels, _):
    np.save(pixels, np.load(pixels).transpose(0, 1, 3, 2).copy())


def of_another_type(pixels, _):
    np.save(pixels, np.load(pixels).view(np.int8))


def not_npy(pixels, _):
    pixels.write_bytes(b"hello")


def empty(pixels, _):
    pixels.write_bytes(b"")


def no_reasons(_, reasons):
    reasons.unlink()


def cut_reasons(_, reasons):
    reasons.write_bytes(reasons.read_bytes()[:-3])


def other_reasons(_, reasons):
    reasons.write_text('{"refused": {"a/none.png": "empty"}}')


def a_list_of_reasons(_, reasons):
    reasons.write_text('["a/bad.png"]')


DAMAGE = [
    *(cut, lengthen, of_another_shape, of_another_type, not_npy, empty),
    *(no_reasons, cut_reasons, other_reasons, a_list_of_reasons),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_anew(top, caches, decodings, damage):
    build(top, cache=True)
    (file,) = caches.glob("*.npy")
    content = file.read_bytes()
    damage(file, file.with_suffix(".json"))
    again = build(top, cache=True)
    assert len(decodings) == 2 * 24
    assert file.read_bytes() == content
    assert same(batches(again), batches(build(top)))
    assert sorted(path.name for path in caches.iterdir()) == [f"{file.stem}.json", f"{file.stem}.npy"]


def test_a_file_that_could_not_be_read_and_now_can_is_not_left_out_for_ever(top, caches, monkeypatch):
    (top / "a" / "bad.png").unlink()
    read_bytes = picture_file.read_bytes

    def refusing(path, max_pixels):
        if os.path.basename(path) == "3.png":
            raise picture_file.BadPicture(f"{picture_file.UNREADABLE}: Permission denied")
        return read_bytes(path, max_pixels)

    for reader in (picture_file, picture_cache):
        monkeypatch.setattr(reader, "read_bytes", refusing)
    for _ in range(2):
        with pytest.warns(UserWarning, match="left out 2 of 24 files"):
            build(top, skip=False, on_bad_sample="skip", cache=True)
    for reader in (picture_file, picture_cache):
        monkeypatch.setattr(reader, "read_bytes", read_bytes)
    assert sum(map(len, build(top, skip=False, cache=True).splits.values())) == 24


KILLED = """
import os, signal, sys
from pathlib import Path
import platformdirs
import ptb_datasets.picture_cache as cache
import ptb_datasets.picture_file as file
from ptb_datasets.image_folder import image_folder
platformdirs.user_cache_path = lambda name: Path(sys.argv[2]) / name
module, name, count = {"decode": (file, "decode", 20), "fsync": (os, "fsync", 1), "replace": (os, "replace", 1),
                       "second-fsync": (os, "fsync", 2), "second-replace": (os, "replace", 2)}[sys.argv[3]]
original, calls = getattr(module, name), []
def killing(*given):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*given)
setattr(module, name, killing)
image_folder(root=sys.argv[1], size=(6, 5), on_bad_sample="skip", cache=True)
"""


@pytest.mark.skipif(not hasattr(os, "WIFSIGNALED"), reason="this system has no signals")
@pytest.mark.parametrize("when", ["decode", "fsync", "replace", "second-fsync", "second-replace"])
def test_a_process_that_is_killed_leaves_no_wrong_cache(top, caches, decodings, when, run_python, tmp_path):
    command = [sys.executable, "-c", KILLED, top, caches.parents[1], when]
    assert run_python(command, cwd=tmp_path).returncode == -9
    assert not [*caches.glob("*.npy")]
    (left, *_) = caches.glob("*.tmp")
    assert same(batches(build(top, cache=True)), batches(build(top)))
    build(top, cache=True)
    assert len(decodings) == 2 * 24
    assert left.exists()  # its process could still be at work
    long_ago = time.time() - picture_cache.LEFT_BEHIND - 10
    os.utime(left, (long_ago, long_ago))
    build(top, cache=True, size=7)
    assert not left.exists()


def test_a_full_disk_is_a_storage_error_that_leaves_nothing(top, caches, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"cannot keep the decoded pictures in .*No space left.*leave dataset\.cache out"
    ):
        build(top, skip=False, cache=True)
    assert [*caches.iterdir()] == []


def test_a_cache_folder_that_cannot_be_made_is_a_storage_error(top, caches):
    caches.parents[1].write_text("")
    with pytest.raises(StorageError, match="cannot keep the decoded pictures"):
        build(top, skip=False, cache=True)


def test_a_folder_without_files_is_told_as_without_a_cache(tmp_path, caches):
    for name in ("a", "b"):
        (tmp_path / "none" / name).mkdir(parents=True)
    with pytest.raises(DataError, match="the class 'a' has no picture"):
        build(tmp_path / "none", skip=False, cache=True)
    assert not caches.exists()


def test_caching_and_checking_headers_only_exclude_each_other(top, built_in):
    with pytest.raises(ConfigError, match=r"dataset\.cache decodes every picture, and dataset\.check=header none"):
        build(top, skip=False, cache=True, check="header")
    with pytest.raises(ConfigError, match=r"dataset\.cache: decodes every picture, and check=header none"):
        built_in.build("dataset", "image-folder", root=str(top), cache=True, check="header")


def test_threads_give_their_results_in_order_and_run_ahead_only_so_far():
    started, threads = [], set()

    def work(number):
        started.append(number)
        threads.add(threading.current_thread().name)
        return number * number

    results = in_threads(work, range(5000))
    assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
    assert len(started) <= AT_ONCE * (8 * TASKS_AHEAD + 2)
    assert [*results] == [n * n for n in range(10, 5000)]
    assert sorted(started) == list(range(5000))
    assert 1 <= len(threads) <= 8


def test_other_pictures_of_the_same_names_sizes_and_times_have_a_cache_of_their_own(top, tmp_path, decodings):
    build(top, cache=True)
    other = tmp_path / "other"
    shutil.copytree(top, other)  # keeps the times of the files
    build(other, cache=True)
    assert len(decodings) == 48
