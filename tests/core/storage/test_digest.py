import hashlib

import torch

from ptb.storage.digest import weights_sha256


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


def test_a_tensor_of_one_value_has_a_hash_whatever_its_strides():
    odd = torch.empty_strided((1, 1), (2, 2), dtype=torch.float16).fill_(3)
    assert weights_sha256({"a": odd}) == weights_sha256({"a": torch.full((1, 1), 3, dtype=torch.float16)})
