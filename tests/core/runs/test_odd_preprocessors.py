"""What a preprocessor gives in place of samples and columns is told with its place, and drops no input unseen."""

import pytest
import torch

from ptb import DataError, PluginError, RunConfig, Sample, evaluate, load, train
from ptb_datasets.grey_preprocessor import GreyPreprocessor


@pytest.fixture(scope="module")
def run(tmp_path_factory, built_in):
    config = RunConfig(model={"name": "linear"}, dataset={"size": 8}, trainer={"epochs": 1}, device="cpu")
    return train(config, registry=built_in, output=tmp_path_factory.mktemp("odd") / "run").output


@pytest.fixture
def model(run, built_in):
    return load(run, registry=built_in)


GOOD = Sample("good", torch.zeros(1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            ("name", torch.zeros(1, 8, 8)),
            r"failed to read: TypeError: read\(\) must yield ptb.Sample, it yields a tuple",
        ),
        (torch.zeros(1, 8, 8), r"failed to read: TypeError: read\(\) must yield ptb.Sample, it yields a Tensor"),
        (Sample("neither"), "has read make no batch: "),
        (Sample("other", torch.zeros(1, 9, 8)), "has read make no batch: RuntimeError: stack expects"),
    ],
    ids=["tuple", "tensor", "neither", "shape"],
)
def test_what_is_no_sample_like_the_others_is_refused(model, run, built_in, monkeypatch, given, text):
    monkeypatch.setattr(model.preprocessor, "read", lambda sources: iter([GOOD, given]))
    with pytest.raises(DataError, match=f"the preprocessor of the run {text}"):
        model.predict(["x"])
    monkeypatch.setattr(GreyPreprocessor, "read", lambda self, sources: iter([GOOD, given]))
    with pytest.raises(DataError):
        evaluate(run, ["x"], registry=built_in)


def test_what_reading_raises_is_told_in_an_evaluation_too(run, built_in, monkeypatch):
    def fails(self, sources):
        raise KeyError("lens")

    monkeypatch.setattr(GreyPreprocessor, "read", fails)
    with pytest.raises(DataError, match="the preprocessor of the run failed to read: KeyError: 'lens'"):
        evaluate(run, ["x"], registry=built_in)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"prediction": ["0", "1", "2"], "sure": [0.5]}, "column 'sure' must have 3 values, it has 1"),
        (None, "'NoneType' object is not iterable"),
        ({"prediction": 3}, r"object of type 'int' has no len\(\)"),
    ],
)
def test_columns_that_lack_values_are_refused(model, monkeypatch, columns, text):
    monkeypatch.setattr(model.preprocessor, "decode", lambda scores: columns)
    with pytest.raises(PluginError, match=f"the preprocessor of the run cannot decode scores: .*{text}"):
        model.predict([GOOD, GOOD, GOOD])


def test_fewer_names_than_samples_are_refused(run, built_in, monkeypatch):
    import ptb_datasets.digits as module

    bundle_of = module.DataBundle
    monkeypatch.setattr(module, "DataBundle", lambda *args, **kw: bundle_of(*args, **kw, names=lambda split: ["one"]))
    with pytest.raises(DataError, match="fewer names of its test split than it has samples"):
        evaluate(run, samples=True, registry=built_in)
