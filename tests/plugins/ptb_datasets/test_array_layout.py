"""Pictures whose channels come last."""

import re

import numpy as np
import pytest
import torch

from ptb import ConfigError
from ptb.registry.settings import validate
from ptb_datasets.arrays import arrays
from ptb_datasets.settings import Arrays

PICTURES = np.random.RandomState(0).randint(0, 256, (40, 6, 8, 3)).astype(np.uint8)
FLOATS = PICTURES.astype("f4")


@pytest.fixture
def load(tmp_path):
    def run(values, **settings):
        name = f"x-{len(list(tmp_path.iterdir()))}.npy"  # a file that is mapped must stay as it is
        np.save(tmp_path / name, values)
        np.save(tmp_path / "y.npy", np.arange(len(values)) % 4)
        return arrays(inputs=str(tmp_path / name), targets=str(tmp_path / "y.npy"), **settings)

    return run


def inputs(bundle):
    return torch.stack([bundle.train[row][0] for row in range(len(bundle.train))])


@pytest.mark.parametrize(
    ("values", "settings"),
    [(PICTURES, {}), (PICTURES, {"standardize": True}), (FLOATS, {"standardize": True}), (FLOATS, {"missing": "mean"})],
    ids=["uint8", "standardized", "floats", "filled"],
)
def test_they_give_the_samples_of_the_same_pictures_with_the_channels_first(load, tmp_path, values, settings):
    if "missing" in settings:
        values = np.where(values == values[3, 2, 1, 0], np.nan, values)
    wanted = load(np.ascontiguousarray(values.transpose(0, 3, 1, 2)), **settings)
    bundle = load(values, layout="channels-last", **settings)
    assert bundle.spec.input_shape == (3, 6, 8)
    samples = inputs(bundle)
    assert torch.equal(samples, inputs(wanted))
    if wanted.transform is not None:
        assert torch.equal(bundle.transform(samples), wanted.transform(samples))
    (tmp_path / "splits").mkdir()
    written = bundle.write_splits(tmp_path / "splits")["train"]
    for source in (written, np.load(written)):
        assert torch.equal(torch.stack([sample.inputs for sample in bundle.preprocessor.read([source])]), samples)
    assert torch.equal(next(iter(bundle.preprocessor.read([np.load(written)[0]]))).inputs, samples[0])


def test_the_warning_names_what_ends_it(load):
    with pytest.warns(UserWarning, match="is taken for 6 channels of 8x3") as said:
        load(FLOATS)
    first, second = re.findall(r"dataset\.layout=([\w-]+)", str(said[0].message))
    assert load(FLOATS, layout=first).spec.input_shape == (3, 6, 8)
    assert load(FLOATS, layout=second).spec.input_shape == (6, 8, 3)


@pytest.mark.parametrize("values", [PICTURES[..., 0], FLOATS[:, :, 0, 0]], ids=["grey", "vectors"])
def test_it_is_for_pictures_of_four_axes(load, values):
    with pytest.raises(ConfigError, match=r"dataset\.layout is for pictures of four axes, and .*x-0.npy holds"):
        load(values, layout="channels-last")


def test_vectors_have_no_layout():
    with pytest.raises(ConfigError, match="belongs to pictures"):
        validate(Arrays, {"inputs": "a.npy", "targets": "b.npy", "layout": "channels-last", "inputs_as": "vector"})
