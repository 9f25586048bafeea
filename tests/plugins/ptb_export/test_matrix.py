import pytest

import ptb as api
from ptb_export.exporting import export_run
from ptb_export.formats import SUFFIXES

KINDS = """
import torch
from torch.utils.data import TensorDataset
from ptb import Component, DataBundle, DataSpec, Preprocessor, hookimpl

class Plain(Preprocessor):
    def transform(self, inputs):
        return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs

    def state_dict(self):
        return {}

def kinds(*, inputs: str, target: str, positions: bool = False):
    rng = torch.Generator().manual_seed(0)
    shape = {"image": (1, 20, 20), "vector": (6,), "tokens": (7,), "array": (7, 3)}[inputs]
    places = () if not positions else shape[1:] if inputs == "image" else shape[:1]
    lead = (24, 2) if target == "similarity" else (24,)
    if inputs == "image":
        x = torch.randint(0, 256, (*lead, *shape), generator=rng, dtype=torch.uint8)
    elif inputs == "tokens":
        ends = torch.randint(1, 8, (*lead, 1), generator=rng)
        x = torch.randint(1, 30, (*lead, *shape), generator=rng) * (torch.arange(7) < ends)
    else:
        x = torch.randn(*lead, *shape, generator=rng)
    more, size = {}, 3
    if target == "class":
        y = torch.arange(24).remainder(3).view(-1, *(1 for _ in places)).expand(24, *places).clone()
    elif target == "binary":
        y, size = torch.arange(24).remainder(2).float()[:, None], 1
    elif target == "multilabel":
        y = torch.randint(0, 2, (24, 3), generator=rng).float()
    elif target == "real":
        y, size = torch.randn(24, 2, *places, generator=rng), 2
        more = {"target_mean": (100.0, -5.0), "target_std": (10.0, 0.5)}
    elif target == "distribution":
        y = torch.rand(24, 3, generator=rng).softmax(1)
    else:
        y, size = torch.arange(24).remainder(2).float() * 2 - 1, 4
    if inputs == "tokens":
        more |= {"vocabulary": 30, "padding": 0}
    preprocessor = Plain()
    preprocessor.spec = spec = DataSpec(shape, inputs, target, size, positions=places, **more)
    split = TensorDataset(x, y)
    return DataBundle(spec, split, test=split, transform=preprocessor.transform, preprocessor=preprocessor)

@hookimpl
def ptb_provide_datasets():
    return [Component("kinds", "ptb_kinds:kinds")]
"""
TARGETS = ("class", "binary", "multilabel", "real", "distribution", "similarity")
INPUTS = {
    "linear": "image",
    "mlp": "vector",
    "lenet": "image",
    "cnn": "image",
    "resnet": "image",
    "embedding-bag": "tokens",
    "rnn": "tokens",
}
CASES = [(model, inputs, target, False) for model, inputs in INPUTS.items() for target in TARGETS]
CASES += [("linear", "vector", "class", False), ("mlp", "image", "class", False), ("rnn", "array", "real", False)]
CASES += [("rnn", "tokens", "class", True), ("rnn", "array", "real", True)]
CASES += [("unet", "image", "class", True), ("unet", "image", "real", True)]
QUICK = {
    ("mlp", "vector", "real", "onnx"),
    ("cnn", "image", "similarity", "torch-export"),
    ("embedding-bag", "tokens", "multilabel", "onnx"),
    ("rnn", "tokens", "binary", "torch-export"),
}
SMALL = {"unet": {"width": 4, "depth": 2}, "rnn": {"hidden": 8, "bidirectional": True}}


def parameters():
    for case in CASES:
        for name in SUFFIXES:
            quick = (*case[:3], name) in QUICK
            yield pytest.param(
                *case, name, marks=[] if quick else [pytest.mark.matrix], id="-".join(map(str, (*case, name)))
            )


@pytest.mark.parametrize(("model", "inputs", "target", "positions", "name"), [*parameters()])
def test_what_is_exported_is_checked(site, tmp_path, model, inputs, target, positions, name):
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    site.add("ptb_kinds", KINDS)
    registry = site.registry()
    config = api.RunConfig(
        model={"name": model, **SMALL.get(model, {})},
        dataset={"name": "kinds", "inputs": inputs, "target": target, "positions": positions},
        trainer={"epochs": 1},
        loader={"batch_size": 8},
        device="cpu",
    )
    api.train(config, registry=registry, output=tmp_path / "run")
    path = tmp_path / f"model{SUFFIXES[name]}"
    done = export_run(str(tmp_path / "run"), (), name, path, None, registry)
    assert done["samples"] == 24
    assert done["difference"] < 1e-5
    assert path.stat().st_size == done["bytes"]
    assert (done["read"], done["unread"]) == (0, "how ptb_kinds:Plain reads files is known to its plugin only")


def test_every_built_in_model_is_exported_with_every_target(built_in):
    names = {entry.name for entry in built_in.components("model")}
    assert {case[0] for case in CASES} == names
