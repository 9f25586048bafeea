"""Hashes of tensors and of weights."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a ``state_dict``: entries sorted by name, each as name, NUL, dtype, NUL, shape, NUL, bytes.

    dtype and shape are spelled as torch and Python print them: ``torch.float32`` and ``(6, 1, 5, 5)``.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}\0".encode())
        update_digest(digest, state[name])
    return digest.hexdigest()


def update_digest(digest: "hashlib._Hash", tensor: Tensor) -> None:
    """Add a tensor to a hash: dtype, NUL, shape, NUL, the little-endian bytes of the contiguous CPU tensor."""
    digest.update(f"{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    digest.update(raw(tensor.cpu()).numpy().data if tensor.numel() else b"")


def raw(tensor: Tensor) -> Tensor:
    """The bytes of a tensor in the order of its values, uint8 ``[N]``, on its device."""
    dense = tensor.detach().contiguous()
    # torch calls a tensor of one value contiguous whatever its strides, and then refuses to view it as bytes.
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
