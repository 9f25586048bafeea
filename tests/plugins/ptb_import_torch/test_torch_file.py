import pickle
import struct
import zipfile
from collections import OrderedDict, deque

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ptb.errors import StorageError
from ptb_import_torch.archive import MOST_DIRECTORY
from ptb_import_torch.torch_file import TorchWeights, read_torch_file, write_weights


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def saved(tmp_path, value, **options):
    path = tmp_path / "weights.pt"
    torch.save(value, path, **options)
    return path


def rewritten(path, change):
    """The archive with its entries changed, as a list of name and content."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(entries):
            archive.writestr(name, content)
    return path


def same(tensors, state):
    return list(tensors) == list(state) and all(torch.equal(tensors[name], state[name]) for name in state)


def test_a_state_dict_comes_back(tmp_path):
    state = Wrapped().state_dict()
    found = read_torch_file(saved(tmp_path, state))
    assert same(found.tensors, state)
    assert found == TorchWeights(found.tensors)


@pytest.mark.parametrize("holder", ["state_dict", "model", "model_state_dict"])
def test_a_dict_that_holds_one_is_used_and_the_rest_is_named(tmp_path, holder):
    state = Wrapped().state_dict()
    optimizer = torch.optim.SGD(Wrapped().parameters(), 0.1, momentum=0.9).state_dict()
    found = read_torch_file(saved(tmp_path, {"epoch": 3, holder: state, "optimizer": optimizer, "by": {1, 2}}))
    assert same(found.tensors, state)
    assert (found.holder, found.ignored) == (holder, ("epoch", "optimizer", "by"))


@pytest.mark.parametrize(
    ("before", "removed"),
    [("module.", "module."), ("_orig_mod.module.", "_orig_mod.module."), ("module.module.", "module.module.")],
)
def test_what_wrappers_put_before_every_name_is_removed_and_named(tmp_path, before, removed):
    state = Wrapped().state_dict()
    found = read_torch_file(saved(tmp_path, {before + name: value for name, value in state.items()}))
    assert same(found.tensors, state)
    assert found.prefix == removed


def test_a_prefix_that_not_every_name_has_stays(tmp_path):
    state = {"module.weight": torch.ones(2), "n_averaged": torch.tensor(3)}
    found = read_torch_file(saved(tmp_path, state))
    assert same(found.tensors, state)
    assert found.prefix == ""


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6, dtype=torch.int64).reshape(2, 3).t(),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(3, dtype=torch.float8_e4m3fn),
        torch.ones(3, dtype=torch.uint16),
        torch.ones((), dtype=torch.bool),
        torch.empty(0, 3),
        nn.Parameter(torch.ones(2)),
    ],
    ids=["transposed", "bfloat16", "float8", "uint16", "bool-scalar", "empty", "parameter"],
)
def test_every_kind_of_plain_tensor_is_written_as_it_is(tmp_path, tensor):
    found = read_torch_file(saved(tmp_path, {"b": tensor, "a": torch.zeros(1)}))
    write_weights(tmp_path / "weights.safetensors", found.tensors)
    written = load_file(tmp_path / "weights.safetensors")
    assert written["b"].dtype == tensor.dtype
    assert written["b"].shape == tensor.shape
    assert torch.equal(written["b"].double(), tensor.detach().double())


def test_tensors_that_share_memory_get_memory_of_their_own(tmp_path):
    whole = torch.arange(8.0)
    state = Tied().state_dict() | {"whole": whole, "part": whole[2:4]}
    write_weights(tmp_path / "out.safetensors", read_torch_file(saved(tmp_path, state)).tensors)
    written = load_file(tmp_path / "out.safetensors")
    assert sorted(written) == ["first.weight", "part", "second.weight", "whole"]
    assert torch.equal(written["first.weight"], written["second.weight"])
    assert torch.equal(written["part"], torch.tensor([2.0, 3.0]))


def test_the_guard_does_not_depend_on_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(StorageError, match=r"holds more than weights: it asks for collections\.deque"):
        read_torch_file(saved(tmp_path, {"state_dict": deque()}))


def test_torch_would_not_have_run_it_either(tmp_path, monkeypatch):
    monkeypatch.setattr("ptb_import_torch.archive._check_pickle", lambda path, data: None)
    with pytest.raises(StorageError, match=r"cannot be read as weights: Unsupported global: GLOBAL collections\.deque"):
        read_torch_file(saved(tmp_path, {"state_dict": deque()}))


def test_what_torch_allows_and_weights_do_not_need_is_refused(tmp_path):
    path = saved(tmp_path, {"w": torch.ones(2)})
    bomb = b"\x80\x02cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**30) + b"\x85R."
    rewritten(path, lambda entries: [(n, bomb if n.endswith("data.pkl") else c) for n, c in entries])
    with pytest.raises(StorageError, match=r"it asks for builtins\.bytearray"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (nn.Linear(2, 2), r"holds more than weights: it asks for torch\.nn\.modules\.linear\.Linear"),
        ([torch.ones(2)], "holds list of 1, not a state_dict"),
        (torch.ones(2), "holds Tensor, not a state_dict"),
        ({}, r"holds a dict with nothing\. There is no state_dict"),
        (
            {"epoch": 1, "net": {"w": torch.ones(1)}},
            r"a dict with epoch \(int\), net \(dict of 1\)\. There is no state_dict",
        ),
        ({"model": {"w": torch.ones(1), "b": 3}}, r"model: a state_dict holds tensors only, this one has b \(int\)"),
        (
            {"model": {"w": torch.ones(1)}, "state_dict": {"w": torch.ones(1)}},
            "several dicts that may be weights: state_dict, model;",
        ),
        ({"__metadata__": torch.ones(1)}, "'__metadata__' cannot be the name of a tensor"),
        ({"a\nb": torch.ones(1)}, r"'a\\nb' cannot be the name"),
        ({3: torch.ones(1)}, "3 cannot be the name"),
        ({"w": torch.ones(2).to_sparse()}, r"it asks for torch\._utils\._rebuild_sparse_tensor"),
        ({"w": torch.ones(1).expand(10**5)}, r"its tensors would take 400,000 bytes, the file has 1,\d+: call \.clone"),
    ],
    ids=[
        *("module", "list", "tensor", "nothing", "other-key", "number", "two", "metadata", "control", "no-text"),
        *("sparse", "expanded"),
    ],
)
def test_anything_but_a_state_dict_is_refused_with_what_it_is(tmp_path, value, message):
    with pytest.raises(StorageError, match=message) as caught:
        read_torch_file(saved(tmp_path, value))
    assert "torch.save(model.state_dict(), FILE)" in str(caught.value)


def test_a_config_under_model_does_not_hide_the_weights(tmp_path):
    found = read_torch_file(saved(tmp_path, {"model": {"width": 3}, "state_dict": {"w": torch.ones(1)}}))
    assert (found.holder, found.ignored) == ("state_dict", ("model",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<Q", 2) + b"{}", "is already a safetensors file: use it with --init weights-file"),
        (b"PK\x03\x04", "is cut"),
        (b"", "is not a zip archive"),
        (b"<html>", "is not a zip archive"),
        (pickle.dumps({}, protocol=2), "An older file can run code when it is read"),
    ],
    ids=["safetensors", "cut", "empty", "html", "pickle"],
)
def test_other_files_are_refused_with_what_to_do(tmp_path, content, message):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=message):
        read_torch_file(path)


def test_a_file_of_torch_before_1_6_is_refused(tmp_path):
    with pytest.raises(StorageError, match=r"load it with torch itself and save the weights alone"):
        read_torch_file(saved(tmp_path, Wrapped().state_dict(), _use_new_zipfile_serialization=False))


@pytest.mark.parametrize("place", [0, 8, 20], ids=str)
def test_a_bit_that_flipped_is_found_which_torch_does_not_do(tmp_path, place):
    state = {"w": torch.arange(16.0)}
    path = saved(tmp_path, state)
    data = bytearray(path.read_bytes())
    data[data.index(state["w"].numpy().tobytes()) + place] ^= 4
    path.write_bytes(data)
    assert not torch.equal(torch.load(path)["w"], state["w"])
    with pytest.raises(StorageError, match="is damaged: the checksum of weights/data/0 is wrong"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights/DATA.pkl", "not one of torch.save: it holds"),  # torch would read this one
        ("other/data.pkl", "not one of torch.save: it holds"),
        ("weights/constants.pkl", "TorchScript"),
    ],
)
def test_entries_that_torch_does_not_write_are_refused(tmp_path, name, message):
    path = saved(tmp_path, {"w": torch.ones(2)})
    rewritten(path, lambda entries: [*entries, (name, b"x")])
    with pytest.raises(StorageError, match=message):
        read_torch_file(path)


def test_torch_looks_names_up_without_regard_to_case(tmp_path, monkeypatch):
    path = saved(tmp_path, {"w": torch.ones(2)})
    rewritten(path, lambda entries: [*entries, ("weights/DATA.PKL", b"\x80\x02K\x07.")])
    assert torch.load(path) == 7


def test_an_entry_that_stands_twice_is_refused(tmp_path):
    path = saved(tmp_path, {"w": torch.ones(2)})
    with pytest.warns(UserWarning, match="Duplicate name"):
        rewritten(path, lambda entries: [*entries, entries[0]])
    with pytest.raises(StorageError, match=r"not one of torch\.save"):
        read_torch_file(path)


def test_compressed_entries_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1000))
    with pytest.raises(StorageError, match="its entries overlap or are compressed"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "change",
    [lambda data: b"#!/bin/sh\n" + data, lambda data: data + b"x", lambda data: data[:-1], lambda data: data[100:]],
    ids=["before", "behind", "cut", "cut-before"],
)
def test_nothing_stands_before_or_after_the_archive(tmp_path, change):
    path = saved(tmp_path, {"w": torch.ones(2)})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(StorageError, match=r"is cut, or something was added before or after|is not a zip archive"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("offset", "value"), [(-98, 0), (-34, 1), (-58, 9), (-50, 9)], ids=["mark", "locator", "length", "place"]
)
def test_the_two_readers_of_an_archive_find_the_same_directory(tmp_path, offset, value):
    path = saved(tmp_path, {"w": torch.ones(2)})
    data = bytearray(path.read_bytes())
    data[offset] = value
    path.write_bytes(data)
    with pytest.raises(StorageError, match="is cut, or something was added"):
        read_torch_file(path)


def test_a_directory_that_would_fill_the_memory_is_not_read(tmp_path):
    path = tmp_path / "weights.pt"
    directory = bytes(MOST_DIRECTORY + 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 9, 9, len(directory), 4, 0)
    path.write_bytes(b"PK\x03\x04" + directory + end)
    with pytest.raises(StorageError, match="has a directory of 8,388,609 bytes"):
        read_torch_file(path)


def test_an_ordered_dict_that_hides_its_items_is_seen_through(tmp_path):
    path = saved(tmp_path, OrderedDict(w=torch.ones(2)))
    hidden = (
        b"}" + b"".join(b"X" + struct.pack("<I", len(n)) + n + b"K\3s" for n in (b"items", b"keys", b"values")) + b"b."
    )
    rewritten(path, lambda entries: [(n, c[:-1] + hidden if n.endswith("data.pkl") else c) for n, c in entries])
    assert torch.load(path).items == 3
    assert list(read_torch_file(path).tensors) == ["w"]


@pytest.mark.parametrize(("depth", "message"), [(99, "holds a dict with tuple of 2"), (100, "more than 100 deep")])
def test_tuples_are_not_looked_up_however_deep_they_are(tmp_path, depth, message):
    key = (1,)
    for _ in range(depth):
        key = (key, 2)
    with pytest.raises(StorageError, match=message):
        read_torch_file(saved(tmp_path, {key: torch.ones(1), "again": [key, {"and": key}]}))


@pytest.mark.parametrize("name", ["missing.pt", "a\0b.pt", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(StorageError, match=r"cannot read|is not a file"):
        read_torch_file(tmp_path / name)
