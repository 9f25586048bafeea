import hashlib
import json
import random

import numpy as np
import pytest
import torch

import ptb as api
from ptb_datasets.digits import digits
from ptb_export import check, exporting, formats, graph, reading, sidecar

FORMATS = ["onnx", "torch-export"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, built_in):
    """A small run with dropout and batch norm, on pictures."""
    output = tmp_path_factory.mktemp("export") / "run"
    config = api.RunConfig(
        model={"name": "cnn", "channels": [4, 8], "dropout": 0.3},
        dataset={"size": 12},
        trainer={"epochs": 1},
        device="cpu",
    )
    api.train(config, registry=built_in, output=output)
    return output


def export(run, path, built_in, sources=()):
    name = "onnx" if path.suffix == ".onnx" else "torch-export"
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    return exporting.export_run(str(run), sources, name, path, None, built_in)


def refused(run, folder, built_in):
    """The message with which an export ends with 4; no file may be left."""
    folder = folder / "out"
    folder.mkdir()
    with pytest.raises(api.NumericalError) as caught:
        export(run, folder / "model.pt2", built_in)
    assert caught.value.exit_code == 4
    assert list(folder.iterdir()) == []
    return str(caught.value)


def changed_while_exporting(monkeypatch, change):
    """Apply ``change`` to a copy of the graph that is exported; the run keeps its own."""
    from copy import deepcopy

    program = formats._program

    def changed(made, example):
        made = deepcopy(made)
        change(made)
        return program(made, example)

    monkeypatch.setattr(formats, "_program", changed)


def test_one_changed_weight_is_found(trained, tmp_path, built_in, monkeypatch):
    def change(made):
        with torch.no_grad():
            next(made.model.parameters()).view(-1)[0] += 1e-2

    changed_while_exporting(monkeypatch, change)
    assert "does not say what the run says" in refused(trained, tmp_path, built_in)


@pytest.mark.parametrize("kind", [torch.nn.Dropout, torch.nn.BatchNorm2d], ids=["dropout", "batch-norm"])
def test_a_layer_left_in_training_mode_is_found(trained, tmp_path, built_in, monkeypatch, kind):
    def change(made):
        layers = [layer for layer in made.modules() if isinstance(layer, kind)]
        assert layers
        for layer in layers:
            layer.train()

    changed_while_exporting(monkeypatch, change)
    assert "does not say what the run says" in refused(trained, tmp_path, built_in)


def test_normalising_twice_is_found(trained, tmp_path, built_in, monkeypatch):
    def change(made):
        once = made._transform
        made._transform = lambda inputs: once(once(inputs))

    changed_while_exporting(monkeypatch, change)
    assert "does not say what the run says" in refused(trained, tmp_path, built_in)


def test_two_classes_swapped_in_the_metadata_are_found(trained, tmp_path, built_in, monkeypatch):
    original = exporting.export

    def swapped(name, made, example, outputs, about):
        first, second, *rest = about["class_names"]
        return original(name, made, example, outputs, {**about, "class_names": [second, first, *rest]})

    monkeypatch.setattr(exporting, "export", swapped)
    assert "class_names" in refused(trained, tmp_path, built_in)


def edited(monkeypatch, change):
    monkeypatch.setattr(check, "SIZES", (257,))  # of batches of the graph, which is as it should be
    original = sidecar.sidecar_of

    def made(model):
        values = json.loads(original(model))
        change(values)
        return json.dumps(values)

    monkeypatch.setattr(exporting, "sidecar_of", made)


def test_two_classes_swapped_in_the_sidecar_are_found(trained, tmp_path, built_in, monkeypatch):
    edited(monkeypatch, lambda values: values["class_names"].reverse())
    assert "the sidecar names the classes" in refused(trained, tmp_path, built_in)


@pytest.mark.parametrize("method", ["nearest", "cubic", "area", "linear"])
def test_another_interpolation_is_found(trained, tmp_path, built_in, monkeypatch, method):
    edited(monkeypatch, lambda values: values["state"].update(form={"interpolation": method}))
    assert "another input" in refused(trained, tmp_path, built_in)


def test_two_exports_are_the_same_bytes_and_hold_no_sample(trained, tmp_path, built_in):
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path in paths:
        export(trained, path, built_in)
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert len(hashes) == 1
    assert not samples_in(paths[0].read_bytes())


def samples_in(content):
    """The numbers of the samples whose pixels, as they are or as floats, are in a file."""
    bundle = digits(size=12)
    found = []
    for split in (bundle.train, bundle.val, bundle.test):
        for pixels, _ in split:
            array = np.asarray(pixels)
            forms = (array, array.astype(np.float32), np.asarray(bundle.transform(torch.as_tensor(array))))
            found += [form for form in forms if form.tobytes() in content]
    return found


def test_the_search_for_samples_finds_one():
    pixels, _ = digits(size=12).test[3]
    assert len(samples_in(random.Random(0).randbytes(99) + np.asarray(pixels).tobytes())) == 1


def test_a_torch_program_holds_no_sample_and_says_what_it_is(trained, tmp_path, built_in):
    done = export(trained, tmp_path / "m.pt2", built_in)
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        assert not samples_in(b"\n".join(map(archive.read, archive.namelist())))
    files = {formats.METADATA: ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=files)
    about = json.loads(files[formats.METADATA])
    model = api.load(trained, device="cpu", registry=built_in)
    assert about["class_names"] == list("0123456789")
    assert about["version"] == api.__version__
    assert (about["target"], about["output"], about["step"]) == ("class", "probabilities", done["step"])
    assert about["weights_sha256"] == json.loads((trained / "summary.json").read_text())["weights_sha256"]
    pixels = torch.stack([digits(size=12).test[place][0] for place in range(5)])
    scores, probabilities = program.module()(pixels)
    torch.testing.assert_close(scores, model.scores(pixels))
    torch.testing.assert_close(probabilities, scores.softmax(1))


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_but_our_own_lines_is_printed(trained, tmp_path, ptb, name):
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    done = ptb("export", trained, "--format", name, "-o", f"m{formats.SUFFIXES[name]}")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    assert first.startswith("wrote m.")
    assert second.startswith("the same as step ")
    assert third == "16 inputs read from files with the sidecar alone are those of the run"


def test_a_run_in_bf16_is_exported_and_compared_in_fp32(tmp_path, built_in):
    config = api.RunConfig(model={"name": "mlp"}, trainer={"epochs": 1, "precision": "bf16"}, device="cpu")
    api.train(config, registry=built_in, output=tmp_path / "run")
    done = export(tmp_path / "run", tmp_path / "m.pt2", built_in)
    assert (done["precision"], done["difference"] < 1e-6) == ("bf16", True)


class Counting(torch.nn.Flatten):
    """Its ``state_dict`` holds a dict, which is no tensor."""

    def __init__(self):
        super().__init__()
        self.counted = {"calls": 3}

    def get_extra_state(self):
        return self.counted

    def set_extra_state(self, state):
        self.counted = state


def test_a_model_with_state_that_is_no_tensor_is_exported(tmp_path):
    class Plugin:
        @api.hookimpl
        def ptb_provide_models(self):
            return [api.Component("counting", f"{__name__}:counting")]

    registry = api.load_registry(plugins=[Plugin()])
    config = api.RunConfig(model={"name": "counting"}, dataset={"size": 8}, trainer={"epochs": 1}, device="cpu")
    run = api.train(config, registry=registry, output=tmp_path / "run")
    done = export(run.output, tmp_path / "model.pt2", registry)
    assert done["difference"] < 1e-5
    program = torch.export.load(tmp_path / "model.pt2", extra_files=(files := {formats.METADATA: ""}))
    assert program
    assert json.loads(files[formats.METADATA])["weights_sha256"] == run.weights_sha256


def counting(spec):
    return torch.nn.Sequential(Counting(), torch.nn.Linear(spec.input_size, spec.output_size))


def test_what_depends_on_values_says_why_and_what_to_do(trained, tmp_path, built_in, monkeypatch):
    def change(made):
        forward = made.model.forward
        made.model.forward = lambda inputs: forward(inputs) if inputs.sum() > 0 else forward(-inputs)

    changed_while_exporting(monkeypatch, change)
    with pytest.raises(
        api.IncompatibleError, match=r"torch\.export cannot export this model.*must not depend on the val"
    ):
        export(trained, tmp_path / "m.pt2", built_in)
    assert not list(tmp_path.glob("m.*"))


def test_the_graph_has_the_link_of_each_target():
    scores = torch.tensor([[0.5, -1.0]])
    one = graph.Link(api.DataSpec((2,), "vector", "binary", 1))(scores[:, :1])
    assert one.shape == (1, 2)
    assert float(one.sum()) == pytest.approx(1)
    spec = api.DataSpec((2,), "vector", "real", 2, target_mean=(10.0, 20.0), target_std=(2.0, 3.0))
    assert graph.Link(spec)(scores).tolist() == [[11.0, 17.0]]


def test_a_reader_of_another_plugin_is_not_known():
    with pytest.raises(ValueError, match="known to its plugin only"):
        reading.kind_of({"preprocessor": "acme.data:Reader"})
