import errno
import hashlib
import os
import random
import shutil
import socket
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from ptb import ConfigError, StorageError
from ptb.storage import atomic
from ptb.storage.checkpoint import (
    CorruptCheckpoint,
    differences,
    find_checkpoints,
    latest_valid,
    load_checkpoint,
    prune_checkpoints,
    resolve_checkpoint,
    save_checkpoint,
)
from ptb.storage.codec import EncodeError, encode


def weights(value=1.0):
    return {
        "weight": torch.full((2, 3), value),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(3),
        "none": torch.empty(0, 4),
        "flags": torch.tensor([True, False]),
    }


def saved(folder, *steps, run="this", **labels):
    metadata = {"run": run, "labels": labels}
    return [save_checkpoint(folder, step, {"model": weights(step)}, metadata) for step in steps]


def test_what_is_saved_is_loaded(tmp_path):
    path = save_checkpoint(tmp_path, 7, {"model": weights(), "lr": 0.1, "pair": (1, None)}, {"epoch": 2, "labels": {}})
    checkpoint = load_checkpoint(path)
    assert (checkpoint.path, checkpoint.step) == (path, 7)
    assert checkpoint.metadata == {"epoch": 2, "labels": {}}
    state = checkpoint.decode()
    assert (state["lr"], state["pair"]) == (0.1, (1, None))
    assert state["model"].keys() == weights().keys()
    assert all(torch.equal(state["model"][name], tensor) for name, tensor in weights().items())
    assert all(state["model"][name].dtype == tensor.dtype for name, tensor in weights().items())


def test_the_name_carries_the_step_and_the_hash_of_the_bytes(tmp_path):
    (path,) = saved(tmp_path, 7)
    assert path.name == f"ckpt-7-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.safetensors"
    assert os.listdir(tmp_path) == [path.name]


def test_tied_weights_and_views_are_saved(tmp_path):
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    tied.register_buffer("view", torch.arange(10)[::2])
    loaded = load_checkpoint(save_checkpoint(tmp_path, 1, {"model": tied.state_dict()}, {})).decode()["model"]
    assert loaded.keys() == tied.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in tied.state_dict().items())


def test_what_cannot_be_saved_leaves_no_file(tmp_path):
    with pytest.raises(EncodeError, match=r"optimizer\.hook is a builtins"):
        save_checkpoint(tmp_path, 1, {"model": {}, "optimizer": {"hook": print}}, {})
    assert os.listdir(tmp_path) == []


def test_a_state_of_too_many_parts_is_refused_before_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("ptb.storage.checkpoint.MAX_HEADER", 300)
    with pytest.raises(StorageError, match=r"step 1 has too many parts for one file \(5 tensors\)"):
        saved(tmp_path, 1)
    assert os.listdir(tmp_path) == []


def test_a_file_of_the_right_hash_that_is_no_checkpoint_is_refused(tmp_path):
    for data in (b"", b"hello", b"\xff" * 20, (8).to_bytes(8, "little") + b"{}      "):
        path = tmp_path / f"ckpt-1-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
        path.write_bytes(data)
        with pytest.raises(CorruptCheckpoint, match="not a checkpoint of ptb"):
            load_checkpoint(path)


def test_a_state_that_lacks_a_tensor_is_refused(tmp_path):
    checkpoint = load_checkpoint(save_checkpoint(tmp_path, 1, {"optimizer": {}}, {}))
    spoilt = replace(checkpoint, state=replace(checkpoint.state, node={"model": {":tensor": "gone"}}))
    with pytest.raises(CorruptCheckpoint, match="not a checkpoint of ptb: DecodeError"):
        spoilt.decode()


@pytest.mark.parametrize("number", [1, 2, 99])
def test_another_format_is_refused_and_left_alone(number, tmp_path, monkeypatch):
    monkeypatch.setattr("ptb.storage.checkpoint.FORMAT", number)
    (path,) = saved(tmp_path, 1)
    monkeypatch.undo()
    told = f"has format {number}, and this version of ptb reads format 3 only: use the version that wrote it"
    with pytest.raises(StorageError, match=told):
        load_checkpoint(path)
    with pytest.raises(StorageError, match=told):
        latest_valid(tmp_path, None, pytest.fail)
    assert path.exists()


def test_only_the_newest_and_what_they_label_are_kept(tmp_path):
    saved(tmp_path, 10, 9, 100, 20, best=9, ema=15)
    saved(tmp_path, 30, best=10)
    (tmp_path / "ckpt-notes.txt").write_text("mine")
    assert list(find_checkpoints(tmp_path)) == [9, 10, 20, 30, 100]
    prune_checkpoints(tmp_path, 3)
    assert list(find_checkpoints(tmp_path)) == [9, 10, 20, 30, 100]
    prune_checkpoints(tmp_path, 2)
    assert list(find_checkpoints(tmp_path)) == [9, 10, 30, 100]
    prune_checkpoints(tmp_path, 1)
    assert list(find_checkpoints(tmp_path)) == [9, 100]
    assert (tmp_path / "ckpt-notes.txt").exists()


def test_each_label_keeps_a_step(tmp_path):
    saved(tmp_path, 1, 2, 3, 4)
    saved(tmp_path, 5, best=1, accuracy=3, gone=7, odd=[4])
    prune_checkpoints(tmp_path, 1)
    assert list(find_checkpoints(tmp_path)) == [1, 3, 5]


def test_of_two_with_one_step_the_one_that_was_written_last_counts_and_the_other_is_pruned(tmp_path):
    first, second = (save_checkpoint(tmp_path, 5, {"model": weights(value)}, {}) for value in (1, 2))
    for older, newer in ((first, second), (second, first)):
        os.utime(older, ns=(10**18, 10**18))
        os.utime(newer, ns=(10**18 + 1, 10**18 + 1))
        assert find_checkpoints(tmp_path) == {5: newer}
        assert latest_valid(tmp_path, None, pytest.fail).path == newer
    prune_checkpoints(tmp_path, 2)
    assert [*tmp_path.iterdir()] == [first]


def test_nothing_is_deleted_while_the_labels_are_not_known(tmp_path, fail, monkeypatch):
    paths = saved(tmp_path, 1, 2, 3, 4, best=1)
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[:20])
    prune_checkpoints(tmp_path, 1)
    assert list(find_checkpoints(tmp_path)) == [1, 2, 3, 4]
    paths[3].write_bytes(whole)
    fail("read", errno.EIO)
    with pytest.raises(StorageError, match=r"cannot read .*ckpt-4-.*Input/output error"):
        prune_checkpoints(tmp_path, 1)
    monkeypatch.undo()
    assert list(find_checkpoints(tmp_path)) == [1, 2, 3, 4]
    prune_checkpoints(tmp_path, 1)
    assert list(find_checkpoints(tmp_path)) == [1, 4]


@pytest.mark.parametrize(
    ("wanted", "step"),
    [("last", 8), ("best", 2), ("accuracy", 4), ("6", 6), (6, 6), ("0", 0), (None, 2)],
)
def test_a_checkpoint_is_found_by_what_it_is_called(wanted, step, tmp_path):
    saved(tmp_path, 0, 2, 4, 6)
    saved(tmp_path, 8, best=2, accuracy=4, pruned=1)
    assert resolve_checkpoint(tmp_path, wanted) == find_checkpoints(tmp_path)[step]


@pytest.mark.parametrize("wanted", ["pruned", "7", 7, "lost", "-1", "٢"])
def test_where_there_is_no_such_checkpoint_those_that_there_are_are_listed(wanted, tmp_path):
    saved(tmp_path, 0, 2, best=1)
    saved(tmp_path, 4, best=2, ema=4, pruned=1)
    told = f"has no checkpoint '{wanted}'; it has best (step 2), ema (step 4), last and the steps 0, 2, 4"
    with pytest.raises(ConfigError) as refused:
        resolve_checkpoint(tmp_path, wanted)
    assert told in str(refused.value)


def test_without_a_best_one_the_last_is_taken_unless_the_best_is_asked_for(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match="run has no checkpoints"):
        resolve_checkpoint(folder)
    saved(folder, 1, 2)
    assert resolve_checkpoint(folder) == find_checkpoints(folder)[2]
    with pytest.raises(ConfigError, match=r"no checkpoint 'best', because no evaluation .*; it has last and the steps"):
        resolve_checkpoint(folder, "best")


def test_the_labels_of_a_damaged_checkpoint_are_not_trusted(tmp_path):
    *_, path = saved(tmp_path, 1, 2, best=1)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'best\\": 1', b'best\\": 2'))
    with pytest.raises(CorruptCheckpoint):
        resolve_checkpoint(tmp_path, "best")
    assert resolve_checkpoint(tmp_path, 1) == find_checkpoints(tmp_path)[1]


def flipped(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def zeroed(data, rng):
    start = rng.randrange(len(data) // 256) * 256
    return data[:start] + bytes(min(256, len(data) - start)) + data[start + 256 :]


def longer(data, rng):
    return data + rng.choice([b"\0", data[-1:], data])


def large(folder, step):
    generator = torch.Generator().manual_seed(step)
    model = {"weight": torch.randn(64, 64, generator=generator), "bias": torch.randn(999, generator=generator)}
    return save_checkpoint(folder, step, {"model": model}, {"run": "this", "labels": {"best": 1}})


@pytest.mark.parametrize(
    ("damage", "times"),
    [
        pytest.param(damage, times, id=f"{damage.__name__}-{times}", marks=marks)
        for damage, times, marks in [
            (flipped, 100, ()),
            (cut, 30, ()),
            (zeroed, 30, ()),
            (longer, 3, ()),
            (flipped, 1000, pytest.mark.reliability),
            (cut, 200, pytest.mark.reliability),
            (zeroed, 200, pytest.mark.reliability),
        ]
    ],
)
def test_no_damaged_content_is_loaded_and_the_one_before_it_is_taken(damage, times, tmp_path):
    intact, newest = large(tmp_path, 1), large(tmp_path, 2)
    data, rng = newest.read_bytes(), random.Random(times)
    for _ in range(times):
        newest.write_bytes(damage(data, rng))
        with pytest.raises(CorruptCheckpoint, match="damaged: its bytes are not those that were saved"):
            load_checkpoint(newest)
        told = []
        assert latest_valid(tmp_path, "this", told.append).path == intact
        assert len(told) == 1
        assert str(newest) in told[0]
        assert told[0].endswith(f"it is kept as .corrupt-{newest.name}")
        (tmp_path / f".corrupt-{newest.name}").unlink()


def be_a_folder(path, _):
    path.unlink()
    path.mkdir()


def be_a_pipe(path, _):
    path.unlink()
    os.mkfifo(path)


def be_a_socket(path, _):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # the path of a socket must be short


def be_a_device(path, _):
    path.unlink()
    path.symlink_to("/dev/zero")


def lead_nowhere(path, _):
    path.unlink()
    path.symlink_to("gone")


def lead_in_a_circle(path, _):
    path.unlink()
    path.symlink_to(path.name)


def be_empty(path, _):
    path.write_bytes(b"")


def be_of_another_step(path, other):
    path.unlink()
    shutil.copy(other, path.with_name(other.name.replace("ckpt-2-", "ckpt-3-")))


def be_another_one(path, other):
    path.write_bytes(other.read_bytes())


NO_FILES = [be_a_folder, be_a_pipe, be_a_socket, be_a_device, lead_nowhere, lead_in_a_circle]


@pytest.mark.parametrize("become", [*NO_FILES, be_empty, be_of_another_step, be_another_one], ids=lambda f: f.__name__)
def test_whatever_has_the_name_of_the_newest_is_renamed_and_reported(become, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, other, newest = saved(tmp_path, 1, 2, 3)
    whole = other.read_bytes()
    become(newest, other)
    told = []
    assert latest_valid(tmp_path, "this", told.append).path == other
    assert other.read_bytes() == whole
    aside = [name for name in os.listdir(tmp_path) if name.startswith(".corrupt-ckpt-3-")]
    assert len(aside) == len(told) == 1
    assert told[0].endswith(f"; it is kept as {aside[0]}")
    assert list(find_checkpoints(tmp_path)) == [1, 2]
    again = saved(tmp_path, 3)[0]  # a second one of the same name does not replace the first
    become(again, other)
    assert latest_valid(tmp_path, "this", told.append).path == other
    assert len([name for name in os.listdir(tmp_path) if name.startswith(".corrupt-")]) == 2
    assert first.exists()


@pytest.mark.parametrize("become", NO_FILES, ids=lambda f: f.__name__)
def test_what_is_no_file_is_not_waited_for(become, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (path,) = saved(tmp_path, 1)
    become(path, None)
    with pytest.raises(CorruptCheckpoint, match=r"cannot read the checkpoint .*ckpt-1-"):
        load_checkpoint(path)


def test_swapped_contents_are_both_refused(tmp_path):
    oldest, one, other = saved(tmp_path, 1, 2, 3)
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
    told = []
    assert latest_valid(tmp_path, "this", told.append).path == oldest
    assert len(told) == 2


def test_where_none_is_intact_nothing_begins_at_step_0(tmp_path):
    for path in saved(tmp_path, 0, 1, 2):
        path.write_bytes(path.read_bytes()[:-1])
    for told in (3, 0):  # the second time they have been renamed already
        lines = []
        with pytest.raises(
            StorageError, match=r"no checkpoint in .* is intact \(3 damaged ones: \.corrupt-ckpt-"
        ) as no:
            latest_valid(tmp_path, "this", lines.append)
        assert (no.value.exit_code, len(lines)) == (5, told)


def test_where_nothing_was_saved_there_is_none(tmp_path):
    assert latest_valid(tmp_path, "this", pytest.fail) is None
    assert latest_valid(tmp_path / "gone", "this", pytest.fail) is None


def test_a_checkpoint_of_another_run_is_neither_loaded_nor_renamed(tmp_path):
    saved(tmp_path, 1)
    (other,) = saved(tmp_path, 2, run="another")
    with pytest.raises(StorageError, match=r"ckpt-2-.* is of another run than manifest.json says \('run': 'this'\)"):
        latest_valid(tmp_path, "this", pytest.fail)
    assert other.exists()
    assert latest_valid(tmp_path, None, pytest.fail).path == other


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["read", "open", "listdir", "lstat"])
def test_a_disk_that_cannot_be_read_now_is_reported_and_nothing_is_renamed(call, code, tmp_path, fail, monkeypatch):
    paths = saved(tmp_path, 1, 2)
    fail(call, code)
    with pytest.raises(StorageError, match=f"cannot read .*{os.strerror(code)}") as told:
        latest_valid(tmp_path, "this", pytest.fail)
    monkeypatch.undo()
    assert not isinstance(told.value, CorruptCheckpoint)
    assert str(tmp_path) in str(told.value)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: no")])
@pytest.mark.parametrize("place", ["load", "decode"])
def test_where_memory_runs_out_no_checkpoint_is_called_damaged(error, place, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise error

    (path,) = saved(tmp_path, 1)
    checkpoint = load_checkpoint(path)
    monkeypatch.setattr("ptb.storage.checkpoint.load" if place == "load" else "torch.empty", fails)
    with pytest.raises(type(error)) as raised:
        latest_valid(tmp_path, "this", pytest.fail) if place == "load" else checkpoint.decode()
    assert raised.value is error
    assert path.exists()


def test_a_damaged_one_that_cannot_be_renamed_is_reported(tmp_path, fail):
    (path,) = saved(tmp_path, 1)
    path.write_bytes(b"")
    fail("replace", errno.EACCES)
    with pytest.raises(StorageError, match=r"cannot write .*\.corrupt-ckpt-1-.*Permission denied"):
        latest_valid(tmp_path, "this", pytest.fail)


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_save_that_fails_leaves_no_file_and_says_where(tmp_path, monkeypatch, fail, call, code):
    fail(call, code)
    with pytest.raises(StorageError, match=r"cannot write .*ckpt-1-.* \([\d,]+ bytes\)"):
        saved(tmp_path, 1)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


def test_a_save_whose_name_cannot_be_flushed_is_reported_too(tmp_path, monkeypatch):
    def refuses(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(atomic, "sync_folder", refuses)
    with pytest.raises(StorageError, match=r"cannot write .*ckpt-1-"):
        saved(tmp_path, 1)


def test_what_differs_is_listed_to_the_last_bit(monkeypatch):
    one = {"a": torch.tensor([0.0, 1.0]), "b": [1, {"c": "x"}], "train_state": {"seconds": 1.0, "step": 2}}
    assert differences(encode(one), encode(one)) == []
    later = {**one, "train_state": {"seconds": 9.0, "step": 2}}
    assert differences(encode(one), encode(later)) == []
    with monkeypatch.context() as patched:
        patched.setattr("ptb.storage.checkpoint.VOLATILE", ())
        assert differences(encode(one), encode(later)) == ["train_state.seconds: 1.0 and 9.0"]
    other = {"a": torch.tensor([-0.0, 1.0]), "b": [1, {"c": "y"}], "train_state": {"seconds": 1.0, "step": 3}}
    assert differences(encode(one), encode(other)) == [
        "a: 1 of 2 values differ",
        'b.1.c: "x" and "y"',
        "train_state.step: 2 and 3",
    ]


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (torch.zeros(2), torch.zeros(2, 1), "a: torch.float32 [2] and torch.float32 [2, 1]"),
        (torch.zeros(2), torch.zeros(2).int(), "a: torch.float32 [2] and torch.int32 [2]"),
        (torch.zeros(1), 0, "a: torch.float32 [1] and 0"),
        (torch.zeros(2, 2), torch.zeros(2, 2).t(), "a.stride.0: "),
        (1, True, "a: 1 and true"),
        (1, 1.0, "a: 1 and 1.0"),
        ({}, [], "a: {} and []"),
        ({}, {"b": None}, "a: {} and"),
        ([1], [1, 2], 'a.1: "nothing" and 2'),
        ((1,), [1], "a.:tuple.0: "),
        ({"b.c": 1}, {"b": {"c": 1}}, "a.b.c: "),
        ("x" * 99, "y" * 99, 'a: "xxx'),
        (float("nan"), 0.0, "a.:float: "),
        (OrderedDict(w=torch.zeros(2)), OrderedDict(w=torch.ones(2)), "a.w: 2 of 2 values differ"),
        ({0: torch.zeros(2)}, {0: torch.ones(2)}, "a.0: 2 of 2 values differ"),
    ],
    ids=str,
)
def test_no_difference_is_overlooked(one, other, told):
    found = differences(encode({"a": one}), encode({"a": other}))
    assert found[0].startswith(told), found
    assert max(map(len, found)) < 160
    assert differences(encode({"a": one}), encode({"a": one})) == []


def test_a_value_of_no_elements_is_compared():
    assert differences(encode({"a": torch.empty(0)}), encode({"a": torch.empty(0)})) == []
    assert differences(encode({"a": torch.empty(0)}), encode({"a": torch.empty(0, 1)})) != []
