import errno
import hashlib
import os
import random
import shutil
import socket

import pytest
import torch
from torch import nn

from ptb import StorageError
from ptb.storage import atomic
from ptb.storage.checkpoint import (
    Checkpoint,
    CorruptCheckpoint,
    differences,
    find_checkpoints,
    latest_valid,
    load_checkpoint,
    model_state,
    prune_checkpoints,
    save_checkpoint,
    weights_sha256,
)
from ptb.storage.codec import Encoder, State


def weights(value=1.0):
    return {
        "weight": torch.full((2, 3), value),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(3),
        "none": torch.empty(0, 4),
        "flags": torch.tensor([True, False]),
    }


def state(value=1.0, model=None, **rest):
    writer = Encoder()
    node = {"model": {name: writer.node(tensor, f"model.{name}") for name, tensor in (model or weights(value)).items()}}
    node |= {name: writer.node(inner, name) for name, inner in rest.items()}
    return State(node, writer.tensors)


def saved(folder, *steps, run="this", best=None):
    return [save_checkpoint(folder, step, state(step), {"run": run, "best_step": best}) for step in steps]


def test_what_is_saved_is_loaded(tmp_path):
    path = save_checkpoint(tmp_path, 7, state(lr=0.1), {"epoch": 2, "best_step": None})
    checkpoint = load_checkpoint(path)
    assert (checkpoint.path, checkpoint.step) == (path, 7)
    assert checkpoint.facts == {"epoch": 2, "best_step": None}
    assert checkpoint.state.node["lr"] == 0.1
    assert checkpoint.weights.keys() == weights().keys()
    for name, tensor in weights().items():
        assert torch.equal(checkpoint.weights[name], tensor)
        assert checkpoint.weights[name].dtype == tensor.dtype


def test_the_name_carries_the_step_and_the_hash_of_the_bytes(tmp_path):
    path = save_checkpoint(tmp_path, 7, state(), {})
    assert path.name == f"ckpt-7-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.safetensors"
    assert os.listdir(tmp_path) == [path.name]


def test_tied_weights_and_views_are_saved(tmp_path):
    def tied():
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        model.register_buffer("view", torch.arange(10)[::2])
        return model

    model, other = tied(), tied()
    path = save_checkpoint(tmp_path, 1, state(model=model_state(model)), {})
    load_checkpoint(path).restore(other)
    assert weights_sha256(model_state(other)) == weights_sha256(model_state(model))


def test_a_file_of_the_right_hash_that_is_no_checkpoint_is_told(tmp_path):
    for data in (b"", b"hello", b"\xff" * 20, (8).to_bytes(8, "little") + b"{}      "):
        path = tmp_path / f"ckpt-1-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
        path.write_bytes(data)
        with pytest.raises(CorruptCheckpoint, match="not a checkpoint of ptb"):
            load_checkpoint(path)


def test_another_format_is_refused_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("ptb.storage.checkpoint.FORMAT", 99)
    path = save_checkpoint(tmp_path, 1, state(), {})
    monkeypatch.undo()
    with pytest.raises(StorageError, match="format 99"):
        load_checkpoint(path)
    with pytest.raises(StorageError, match="format 99"):
        latest_valid(tmp_path, None, pytest.fail)
    assert path.exists()


def test_weights_of_another_model_are_refused(tmp_path):
    path = save_checkpoint(tmp_path, 1, state(), {})
    with pytest.raises(StorageError, match="does not fit the model"):
        load_checkpoint(path).restore(nn.Linear(1, 1))


def test_only_the_newest_and_what_they_call_the_best_are_kept(tmp_path):
    saved(tmp_path, 10, 9, 100, 20, best=9)
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


def test_of_two_with_one_step_the_one_that_was_written_last_counts_and_the_other_is_pruned(tmp_path):
    first, second = (save_checkpoint(tmp_path, 5, state(value), {}) for value in (1, 2))
    for older, newer in ((first, second), (second, first)):
        os.utime(older, ns=(10**18, 10**18))
        os.utime(newer, ns=(10**18 + 1, 10**18 + 1))
        assert find_checkpoints(tmp_path) == {5: newer}
        assert latest_valid(tmp_path, None, pytest.fail).path == newer
    prune_checkpoints(tmp_path, 2)
    assert [*tmp_path.iterdir()] == [first]


def test_nothing_is_deleted_while_it_is_not_known_what_the_best_is(tmp_path, monkeypatch):
    paths = saved(tmp_path, 1, 2, 3, 4, best=1)
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[:20])
    prune_checkpoints(tmp_path, 1)
    assert list(find_checkpoints(tmp_path)) == [1, 2, 3, 4]
    paths[3].write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "read", failing(errno.EIO))
        with pytest.raises(StorageError, match=r"cannot read .*ckpt-4-.*Input/output error"):
            prune_checkpoints(tmp_path, 1)
    assert list(find_checkpoints(tmp_path)) == [1, 2, 3, 4]
    prune_checkpoints(tmp_path, 1)
    assert list(find_checkpoints(tmp_path)) == [1, 4]


def failing(code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


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
    return save_checkpoint(folder, step, state(model=model), {"run": "this", "best_step": 1})


@pytest.mark.parametrize(
    ("damage", "times"),
    [
        pytest.param(damage, times, id=f"{damage.__name__}-{times}", marks=marks)
        for damage, times, marks in [
            (flipped, 150, ()),
            (cut, 40, ()),
            (zeroed, 40, ()),
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


def be_of_another_run(path, _):
    path.unlink()
    saved(path.parent, 3, run="another")


def be_of_another_step(path, other):
    path.unlink()
    shutil.copy(other, path.with_name(other.name.replace("ckpt-2-", "ckpt-3-")))


def be_another_one(path, other):
    path.write_bytes(other.read_bytes())


NO_FILES = [be_a_folder, be_a_pipe, be_a_socket, be_a_device, lead_nowhere, lead_in_a_circle]


@pytest.mark.parametrize(
    "become", [*NO_FILES, be_empty, be_of_another_run, be_of_another_step, be_another_one], ids=lambda f: f.__name__
)
def test_whatever_stands_under_the_name_of_the_newest_is_set_aside(become, tmp_path, monkeypatch):
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
    for told in (3, 0):  # the second time they are set aside already
        lines = []
        with pytest.raises(
            StorageError, match=r"no checkpoint in .* is intact \(3 damaged ones: \.corrupt-ckpt-"
        ) as no:
            latest_valid(tmp_path, "this", lines.append)
        assert (no.value.exit_code, len(lines)) == (5, told)


def test_where_nothing_was_saved_there_is_none(tmp_path):
    assert latest_valid(tmp_path, "this", pytest.fail) is None
    assert latest_valid(tmp_path / "gone", "this", pytest.fail) is None


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["read", "names", "changed_at"])
def test_a_disk_that_cannot_be_read_now_is_told_and_nothing_is_set_aside(call, code, tmp_path, monkeypatch):
    paths = saved(tmp_path, 1, 2)
    monkeypatch.setattr(atomic, call, failing(code))
    with pytest.raises(StorageError, match=f"cannot read .*{os.strerror(code)}") as told:
        latest_valid(tmp_path, "this", pytest.fail)
    assert not isinstance(told.value, CorruptCheckpoint)
    assert str(tmp_path) in str(told.value)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_damaged_one_that_cannot_be_set_aside_is_told(tmp_path, monkeypatch):
    (path,) = saved(tmp_path, 1)
    path.write_bytes(b"")
    monkeypatch.setattr(atomic, "replace", failing(errno.EACCES))
    with pytest.raises(StorageError, match=r"cannot write .*\.corrupt-ckpt-1-.*Permission denied"):
        latest_valid(tmp_path, "this", pytest.fail)


@pytest.mark.parametrize("call", ["create", "write", "sync", "replace", "sync_folder"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_no_temporary_and_says_where(tmp_path, monkeypatch, call, code):
    monkeypatch.setattr(atomic, call, failing(code))
    with pytest.raises(StorageError, match=r"cannot write .*ckpt-1-.* \([\d,]+ bytes\)"):
        save_checkpoint(tmp_path, 1, state(), {})
    assert not any(atomic.is_temporary(name) for name in os.listdir(tmp_path))
    assert (call == "sync_folder") is bool(os.listdir(tmp_path))


def loaded(state):
    return Checkpoint(None, 1, {}, state)


def test_what_differs_is_told_to_the_last_bit():
    one = {"a": torch.tensor([0.0, 1.0]), "b": [1, {"c": "x"}], "totals": {"seconds": 1.0, "step": 2}}
    assert differences(loaded(state(**one)), loaded(state(**one))) == []
    later = {**one, "totals": {"seconds": 9.0, "step": 2}}
    assert differences(loaded(state(**one)), loaded(state(**later))) == []
    other = {"a": torch.tensor([-0.0, 1.0]), "b": [1, {"c": "y"}], "totals": {"seconds": 1.0, "step": 3}}
    assert differences(loaded(state(**one)), loaded(state(**other))) == [
        "a: 1 of 2 values differ",
        'b.1.c: "x" and "y"',
        "totals.step: 2 and 3",
    ]
    assert differences(loaded(state(a=torch.zeros(2))), loaded(state(a=torch.zeros(2, 1)))) == [
        "a: torch.float32 [2] and torch.float32 [2, 1]"
    ]


def test_the_hash_of_the_weights_is_the_documented_one():
    tensors = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[1]], dtype=torch.int64)}
    digest = hashlib.sha256()
    digest.update(b"a\0torch.int64\0(1, 1)\0" + (1).to_bytes(8, "little"))
    digest.update(b"b\0torch.float32\0(2,)\0" + tensors["b"].numpy().tobytes())
    assert weights_sha256(tensors) == digest.hexdigest()
    assert weights_sha256(dict(reversed(tensors.items()))) == digest.hexdigest()


def test_the_hash_tells_names_types_shapes_and_values_apart():
    variants = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0.0, 0, 0, -0.0])},
        {},
    ]
    assert len({weights_sha256(variant) for variant in variants}) == len(variants)


def test_a_model_may_keep_numbers_beside_its_tensors():
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state): ...

    assert model_state(Odd(1, 1)).keys() == {"weight", "bias"}


def test_a_tensor_of_one_value_has_a_hash_whatever_its_strides():
    odd = torch.empty_strided((1, 1), (2, 2), dtype=torch.float16).fill_(3)
    assert weights_sha256({"a": odd}) == weights_sha256({"a": torch.full((1, 1), 3, dtype=torch.float16)})
