"""Random streams: one seed, and for each purpose a stream of its own that no other purpose disturbs."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(seed: int, *labels: str | int) -> int:
    """A seed for one purpose: 63 bits of the SHA-256 of ``seed`` and the labels, the same on every machine."""
    text = "/".join(map(str, ("ptb", seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *labels: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream for these labels."""
    return torch.Generator().manual_seed(derive_seed(seed, *labels))


def seed_host(seed: int, *labels: str | int) -> None:
    """Seeds Python, NumPy and torch's CPU generator, in a tenth of the time that all devices take."""
    derived = derive_seed(seed, *labels)
    random.seed(derived)
    np.random.seed(derived % 2**32)
    torch.default_generator.manual_seed(derived)


def seed_global(seed: int, *labels: str | int) -> None:
    """Seeds Python, NumPy and torch for code that draws from their global generators, as most models do."""
    seed_host(seed, *labels)
    torch.manual_seed(derive_seed(seed, *labels))


def random_state(device: torch.device) -> dict[str, Any]:
    """All global generators of random numbers: Python's, NumPy's, torch's of the host and of the device."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state_all()
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Puts them where ``random_state`` found them; those of a device that is not there are left."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Leaves the global generators after the block as they were before it."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
