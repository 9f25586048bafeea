import errno
import hashlib
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ptb import StorageError
from ptb.checkpoint import (
    find_checkpoints,
    load_checkpoint,
    model_state,
    prune_checkpoints,
    save_checkpoint,
    weights_sha256,
)


def state(value=1.0):
    return {
        "weight": torch.full((2, 3), value),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(3),
        "none": torch.empty(0, 4),
        "flags": torch.tensor([True, False]),
    }


def test_what_is_saved_is_loaded(tmp_path):
    path = save_checkpoint(tmp_path, 7, state(), {"epoch": 2, "metrics": {"val/loss": 0.5}})
    checkpoint = load_checkpoint(path)
    assert checkpoint.step == 7
    assert checkpoint.facts["metrics"] == {"val/loss": 0.5}
    for name, tensor in state().items():
        assert torch.equal(checkpoint.tensors[name], tensor)
        assert checkpoint.tensors[name].dtype == tensor.dtype


def test_the_name_carries_the_step_and_the_hash_of_the_bytes(tmp_path):
    path = save_checkpoint(tmp_path, 7, state(), {})
    assert path.name == f"ckpt-7-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.safetensors"
    assert os.listdir(tmp_path) == [path.name]


def test_tied_weights_and_views_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model.register_buffer("view", torch.arange(10)[::2])
    path = save_checkpoint(tmp_path, 1, model_state(model), {})
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    other.register_buffer("view", torch.zeros(5, dtype=torch.int64))
    load_checkpoint(path).restore(other)
    assert weights_sha256(model_state(other)) == weights_sha256(model_state(model))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_loaded(tmp_path, place, bit):
    path = save_checkpoint(tmp_path, 1, state(), {})
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        load_checkpoint(path)
    path.unlink()


@pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
def test_a_cut_file_is_never_loaded(tmp_path, length):
    path = save_checkpoint(tmp_path, 1, state(), {})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError, match="damaged"):
        load_checkpoint(path)


def test_a_file_of_the_right_hash_that_is_no_checkpoint_is_told(tmp_path):
    for data in (b"", b"hello", b"\xff" * 20, (8).to_bytes(8, "little") + b"{}      "):
        path = tmp_path / f"ckpt-1-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
        path.write_bytes(data)
        with pytest.raises(StorageError, match="not a checkpoint of ptb"):
            load_checkpoint(path)


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ptb.checkpoint.FORMAT", 99)
    path = save_checkpoint(tmp_path, 1, state(), {})
    monkeypatch.undo()
    with pytest.raises(StorageError, match="format 99"):
        load_checkpoint(path)


def test_weights_of_another_model_are_refused(tmp_path):
    path = save_checkpoint(tmp_path, 1, state(), {})
    with pytest.raises(StorageError, match="does not fit the model"):
        load_checkpoint(path).restore(nn.Linear(1, 1))


def test_only_the_newest_and_the_best_are_kept(tmp_path):
    for step in (10, 9, 100, 20, 30):
        save_checkpoint(tmp_path, step, state(step), {})
    (tmp_path / "ckpt-notes.txt").write_text("mine")
    assert list(find_checkpoints(tmp_path)) == [9, 10, 20, 30, 100]
    prune_checkpoints(tmp_path, best=10)
    assert list(find_checkpoints(tmp_path)) == [10, 30, 100]
    assert (tmp_path / "ckpt-notes.txt").exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_nothing_and_says_where(tmp_path, monkeypatch, call, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr({"fsync": "os.fsync", "replace": "pathlib.Path.replace"}[call], fail)
    with pytest.raises(StorageError, match=r"cannot write .*ckpt-1-.* \(\d+ bytes\)"):
        save_checkpoint(tmp_path, 1, state(), {})
    assert os.listdir(tmp_path) == []


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    real_fsync, real_replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), real_fsync(fd))[1])
    monkeypatch.setattr(type(tmp_path), "replace", lambda a, b: (calls.append("replace"), real_replace(a, b))[1])
    save_checkpoint(tmp_path, 1, state(), {})
    assert calls == ["fsync", "replace", "fsync"]


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


def test_state_that_is_no_tensor_is_told():
    class Odd(nn.Module):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state): ...

    with pytest.raises(StorageError, match="_extra_state"):
        model_state(Odd())


def test_a_renamed_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, 7, state(), {})
    renamed = path.rename(tmp_path / path.name.replace("ckpt-7-", "ckpt-9-"))
    with pytest.raises(StorageError, match="was renamed: it was saved at step 7"):
        load_checkpoint(renamed)
