import hashlib
import json
import math
import os
import re
import shlex
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ptb as ptb_package
from ptb import RunConfig, checkpoint_path
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.storage.checkpoint import load_checkpoint, resolve_checkpoint
from ptb_initializers.weights_file import weights_file


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, classes)


class HoldsModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(2, 2)


def trained():
    torch.manual_seed(1)
    net = Net()
    net.norm.running_mean += 2
    net.norm.num_batches_tracked += 7
    return net


def saved(path, state, **metadata):
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata)
    return str(path)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_parameters_and_buffers_become_those_of_the_file_in_place(tmp_path):
    net = Net()
    before = {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in net.named_parameters()}
    net.body.weight.requires_grad_(False)
    weights_file(net, path=saved(tmp_path / "w.safetensors", trained().state_dict()))
    assert same(net.state_dict(), trained().state_dict())
    after = {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in net.named_parameters()}
    assert after == before | {"body.weight": (*before["body.weight"][:2], False)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_floats_of_another_width_are_converted(tmp_path, dtype):
    state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in trained().state_dict().items()}
    net = Net()
    weights_file(net, path=saved(tmp_path / "w.safetensors", state))
    assert net.body.weight.dtype == torch.float32
    assert torch.equal(net.body.weight, state["body.weight"].to(torch.float32))


def test_of_a_checkpoint_of_a_run_the_model_is_taken(tmp_path):
    state = {f"model.{name}": value for name, value in trained().state_dict().items()}
    state["optimizer.state.0.exp_avg"] = torch.ones(3)
    net = Net()
    weights_file(net, path=saved(tmp_path / "w.safetensors", state, ptb="{}"))
    assert same(net.state_dict(), trained().state_dict())


def test_elsewhere_a_name_that_begins_with_model_is_a_name(tmp_path):
    net, other = HoldsModel(), HoldsModel()
    weights_file(net, path=saved(tmp_path / "w.safetensors", other.state_dict()))
    assert same(net.state_dict(), other.state_dict())


def test_tied_weights_stay_tied(tmp_path):
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    weights_file(net, path=saved(tmp_path / "w.safetensors", {f"{n}.weight": torch.ones(2, 2) for n in range(2)}))
    assert net[1].weight is net[0].weight
    assert (net[0].weight == 1).all()


def test_what_is_skipped_keeps_its_own_values(tmp_path):
    net = Net(classes=9)
    own = net.head.weight.clone()
    with pytest.warns(UserWarning, match=r"loaded 7 of 9 .*; left as they are: head\.weight, head\.bias$"):
        weights_file(net, path=saved(tmp_path / "w.safetensors", trained().state_dict()), skip=("head.*",))
    assert torch.equal(net.head.weight, own)
    assert torch.equal(net.body.weight, trained().body.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("head.bias"),
            r"the file lacks head.bias. Choose .*, or use the rest: 'initializer.skip=\[\"head.bias\"\]'",
        ),
        (
            lambda s: s.update(extra=torch.ones(1)),
            r"it has extra, which the model lacks.* use the rest: 'initializer.ignore=\[\"extra\"\]'",
        ),
        (lambda s: s.update({"head.bias": torch.ones(4)}), r"head.bias is \[4\] in the file and \[3\] in the model"),
        (lambda s: s.update({"head.bias": torch.ones(3).int()}), "head.bias is I32 in the file and torch.float32 in"),
        (lambda s: s.update({"norm.num_batches_tracked": torch.tensor(1.0)}), "norm.num_batches_tracked is F32"),
        (
            lambda s: [s.update({name: torch.ones(9)}) for name in list(s)],
            r"and 6 more problems\. Choose the model that they are of",
        ),
    ],
    ids=["missing", "surplus", "shape", "integer", "float", "many"],
)
def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path, change, message):
    state = dict(trained().state_dict())
    change(state)
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        weights_file(net, path=saved(tmp_path / "w.safetensors", state))
    assert same(net.state_dict(), before)


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"initializer\.skip has 'heads\.\*', which matches no name of the model: body"
    ):
        weights_file(Net(), path=saved(tmp_path / "w.safetensors", trained().state_dict()), skip=("heads.*",))


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_weights_that_are_not_finite_are_refused_and_change_nothing(tmp_path, value):
    state = trained().state_dict() | {"head.bias": torch.tensor([1.0, value, 0.0])}
    net = Net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ptb_package.StorageError, match=r"head\.bias holds values that are not finite"):
        weights_file(net, path=saved(tmp_path / "w.safetensors", state))
    assert same(net.state_dict(), before)


def test_a_buffer_may_hold_what_is_not_finite(tmp_path):
    net = nn.Module()
    net.weight = nn.Parameter(torch.ones(1))
    net.register_buffer("mask", torch.zeros(2))
    weights_file(
        net, path=saved(tmp_path / "w.safetensors", {"weight": torch.ones(1), "mask": torch.full((2,), -math.inf)})
    )
    assert net.mask.isinf().all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no safetensors file: it has no header"),
        (b"PK\x03\x04" + bytes(99), "is no safetensors file, but one of torch.save; run: ptb import-torch "),
        (b"\x80\x02}." + bytes(99), "is no safetensors file, but one of torch.save"),
        (struct.pack("<Q", 2**40) + b"{}", "its header claims 1,099,511,627,776 bytes, 16,777,216 are allowed"),
        (struct.pack("<Q", 9) + b"{", "is no sound safetensors file: "),
        (struct.pack("<Q", 5) + b"{'a'}", "is no sound safetensors file: "),
    ],
    ids=["empty", "zip", "pickle", "long", "cut", "no-json"],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ptb_package.StorageError, match=message):
        weights_file(Net(), path=str(path))


@pytest.mark.parametrize("length", [0x4B50, 0x0280, 0x0380])
def test_a_length_that_begins_like_another_kind_of_file_is_a_length(tmp_path, length):
    text = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(length)
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", length) + text + struct.pack("<f", 3.0))
    net = nn.Module()
    net.weight = nn.Parameter(torch.zeros(1))
    weights_file(net, path=str(path))
    assert net.weight.item() == 3


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / "w.safetensors")
    with pytest.raises(ptb_package.StorageError, match="is not a file"):
        weights_file(Net(), path=str(tmp_path / "w.safetensors"))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ptb_package.StorageError, match=r"cannot read initializer\.path=.* does not exist"):
        weights_file(Net(), path=str(tmp_path / "w.safetensors"))


def test_a_checkpoint_whose_bytes_are_not_those_of_its_name_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    saved(path, trained().state_dict())
    name = f"ckpt-3-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.safetensors"
    kept = path.rename(tmp_path / name)
    weights_file(Net(), path=str(kept))
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    with pytest.raises(ptb_package.StorageError, match="is damaged"):
        weights_file(Net(), path=str(kept))


def test_a_run_goes_on_from_the_checkpoint_of_another(tmp_path, built_in):
    short = {"dataset": {"name": "iris"}, "model": {"name": "linear"}, "trainer": {"epochs": 1}, "device": "cpu"}
    first = ptb_package.train(ptb_package.RunConfig(**short), registry=built_in, output=tmp_path / "first")
    checkpoint = max((tmp_path / "first" / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    initializer = {"name": "weights-file", "path": str(checkpoint)}
    # a rate so small that the weights stay as they are loaded
    still = RunConfig(**short, initializer=initializer, optimizer={"name": "sgd", "lr": 1e-30})
    second = ptb_package.train(still, registry=built_in, output=tmp_path / "second")
    assert second.weights_sha256 == first.weights_sha256


def test_the_path_is_recorded_so_that_it_holds_from_any_folder(tmp_path, monkeypatch, built_in):
    monkeypatch.chdir(tmp_path)
    settings = built_in.get("initializer", "weights-file").settings_model()
    assert settings(path="w.safetensors").path == str(tmp_path / "w.safetensors")


def of_lightning(net):
    state = {f"model.{name}": value for name, value in net.state_dict().items()}
    return state | {"criterion.weight": torch.ones(3), "metric.total": torch.ones(())}


def test_a_prefix_is_removed_and_what_is_ignored_is_not_used(tmp_path):
    net = Net()
    path = saved(tmp_path / "w.safetensors", of_lightning(trained()))
    with pytest.warns(
        UserWarning, match=r"loaded 9 of 9 .*; in the file and not used: criterion\.weight, metric\.total"
    ):
        weights_file(net, path=path, prefix="model.", ignore=("criterion.*", "metric.*"))
    assert same(net.state_dict(), trained().state_dict())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"or remove a prefix: initializer\.prefix=model\.$"),
        ({"prefix": "model."}, r"use the rest: 'initializer\.ignore=\[\"criterion\.weight\", \"metric\.total\"\]'$"),
        ({"prefix": "net."}, r"initializer\.prefix is 'net\.', and no name of the file begins so: criterion\.weight, "),
        (
            {"prefix": "model.", "ignore": ("loss.*",)},
            r"initializer\.ignore has 'loss\.\*', which matches no name of the",
        ),
    ],
)
def test_names_of_another_program_are_refused_with_what_to_add(tmp_path, given, message):
    path = saved(tmp_path / "w.safetensors", of_lightning(trained()))
    with pytest.raises(ValueError, match=message):
        weights_file(Net(), path=path, **given)


def test_what_a_message_says_to_add_leads_to_a_run(ptb, tmp_path):
    """Each refusal is followed literally, by a program, until the weights are loaded."""
    short = ["--epochs", "1", "dataset.size=8", "-q"]
    first = ["run", "--model", "mlp", "model.hidden=[8]", *short, "--output", "first"]
    assert ptb(*first).returncode == 0
    state = load_checkpoint(checkpoint_path(tmp_path / "first")).decode()["model"]
    state = {f"model.{name}": value for name, value in state.items()}
    last = max(name for name in state if name.endswith("bias"))
    state[last] = torch.ones(3)  # of other classes
    saved(tmp_path / "w.safetensors", state | {"model.extra": torch.ones(1), "loss.weight": torch.ones(1)})
    command = ["check", "--model", "mlp", "model.hidden=[8]", "dataset.size=8", "--init", "weights-file"]
    command += ["initializer.path=w.safetensors"]
    for _ in range(4):
        done = ptb(*command)
        if done.returncode == 0:
            break
        command += shlex.split(re.search(r"(?:use the rest|remove a prefix): (.+)", done.stderr)[1])
    assert done.returncode == 0, done.stderr
    assert "loaded 3 of 4 tensors" in done.stderr
    assert "in the file and not used: loss.weight, extra" in done.stderr or "extra, loss.weight" in done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory, built_in):
    """A run with several checkpoints, the best of which is not the last."""
    output = tmp_path_factory.mktemp("runs") / "my run"
    config = RunConfig(
        model={"name": "mlp", "hidden": [8]}, dataset={"size": 8}, trainer={"epochs": 2, "checkpoint_every": 20}
    )
    ptb_package.train(config, registry=built_in, output=output)
    return output


@pytest.mark.parametrize("checkpoint", ["", "@last", "@best", "@60"])
def test_a_run_is_the_weights_of_its_checkpoint(run, built_in, checkpoint):
    config = RunConfig(
        model={"name": "mlp", "hidden": [8]},
        dataset={"size": 8},
        initializer={"name": "weights-file", "path": f"{run}{checkpoint}"},
    )
    model = compose(resolve(config, built_in)).trainer.model
    saved_state = load_checkpoint(resolve_checkpoint(run / "checkpoints", checkpoint[1:] or None)).decode()["model"]
    assert same(model.state_dict(), saved_state)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{run}@7", "has no checkpoint '7'; it has .* steps"),
        ("{run}/checkpoints", "is not a run directory"),
        ("x@best", "x does not exist; if it has moved"),
    ],
)
def test_a_run_or_checkpoint_that_is_not_there_is_told(run, path, message):
    with pytest.raises(ptb_package.ConfigError, match=message):
        weights_file(Net(), path=path.format(run=run))


@pytest.mark.parametrize("name", ["gone", "gone@best", "gone.safetensors"])
def test_a_file_or_run_that_has_moved_is_told_with_the_setting_to_type(tmp_path, name):
    with pytest.raises(ptb_package.ConfigError if "@" in name else ptb_package.StorageError) as caught:
        weights_file(Net(), path=str(tmp_path / name))
    folder = tmp_path / name.removesuffix("@best")
    assert str(caught.value) == (
        f"cannot read initializer.path={tmp_path / name}: {folder} does not exist; if it has moved, add its new place, "
        f"initializer.path=NEW/PLACE/{name}"
    )
