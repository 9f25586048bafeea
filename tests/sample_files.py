"""Small files of arrays and pictures, and a preprocessor as a run finds it again."""

import gzip
import zlib

import numpy as np
import torch

from ptb.internals import decode, encode
from ptb_datasets.arrays import arrays

CLASSES = np.arange(60) % 3
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]
PICTURES = np.random.RandomState(0).randint(0, 256, (80, 7, 5)).astype(np.uint8)
IDX_TYPES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13}


def build(folder, inputs, targets, **settings):
    """``arrays`` of both, saved."""
    for name, array in (("inputs", inputs), ("targets", targets)):
        np.save(folder / f"{name}.npy", array)
    return arrays(inputs=str(folder / "inputs.npy"), targets=str(folder / "targets.npy"), **settings)


def drawn(dtype, *shape):
    """60 samples, the same for the same type and shape."""
    random = np.random.RandomState(zlib.crc32(repr((dtype, shape)).encode()))
    if np.dtype(dtype) == bool:
        return random.randint(0, 2, (60, *shape)) > 0
    if np.dtype(dtype).kind == "f":
        return random.standard_normal((60, *shape)).astype(dtype)
    return random.randint(0, 100, (60, *shape)).astype(dtype)


def write_idx(folder, name, array, dtype="u1"):
    """An IDX file, gzipped if the name says so."""
    content = bytes((0, 0, IDX_TYPES[dtype], array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    content += array.astype(dtype).tobytes()
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


def again(preprocessor):
    """The same from its saved state alone."""
    made = type(preprocessor)()
    made.spec = preprocessor.spec
    made.load_state_dict(decode(encode(preprocessor.state_dict())))
    return made


def stacked(samples):
    """The inputs of samples without errors."""
    samples = list(samples)
    assert [sample.error for sample in samples if sample.error] == []
    return torch.stack([sample.inputs for sample in samples])
