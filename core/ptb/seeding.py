"""Random streams: every purpose has its own stream, derived from the one seed of the run."""

import ctypes
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(seed: int, *labels: str | int) -> int:
    """A seed for one purpose: 63 bits of the SHA-256 of ``seed`` and the labels; the same on every machine."""
    text = "/".join(map(str, ("ptb", seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *labels: str | int) -> torch.Generator:
    """A CPU generator at the beginning of the stream for these labels."""
    return torch.Generator().manual_seed(derive_seed(seed, *labels))


def seed_host(seed: int) -> None:
    """Seeds Python, NumPy and torch's CPU generator. Ten times as fast as seeding all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def seed_global(seed: int, *labels: str | int) -> None:
    """Seeds Python, NumPy and torch on all devices, for code that uses their global generators, as most models do."""
    derived = derive_seed(seed, *labels)
    seed_host(derived)
    if torch.accelerator.is_available():  # torch.manual_seed formats three stack traces for devices that are not there
        torch.manual_seed(derived)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of all global random generators: Python's, NumPy's, torch's on the CPU and on the device."""
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
    """Restores what ``random_state`` returned. Ignores the states of devices that this machine does not have."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Restores the global random generators after the block."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    device = torch.device("cuda" if in_use else "cpu")
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)


class GlobalGenerators:
    """Puts the global generators back after a block, quickly where nobody used them.

    NumPy's ``get_state`` takes longer than a small training step. Its generator is a Mersenne Twister of 2,500 bytes:
    comparing those bytes shows whether somebody drew, and only then its state is read or written.
    """

    def __init__(self) -> None:
        self._bits: Any = None
        self._numpy_state: Any = None
        self._device: torch.device | None = None

    def preserved(self, device: torch.device) -> "GlobalGenerators":
        """Leaves the generators of Python, NumPy, and torch for the CPU and a device as they are before ``with``."""
        if device is not self._device:  # looking the generators up takes a microsecond
            self._device, self._generators = device, _torch_generators(device)
        self._torch = [(each, each.get_state()) for each in self._generators]
        self._python = random.getstate()
        if self._bits is not (bits := _numpy_bits()):
            self._bits, self._read_numpy = bits, _twister(bits)
            self._numpy: object = None
        if self._numpy != (numpy := self._read_numpy()) or self._numpy_state["has_gauss"]:
            self._numpy, self._numpy_state = numpy, np.random.get_state(legacy=False)
        return self

    def used(self) -> bool:
        """Whether somebody may have drawn since ``preserved``."""
        drew_from_torch = not all(torch.equal(generator.get_state(), state) for generator, state in self._torch)
        return drew_from_torch or self._python != random.getstate() or self._numpy_used()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        for generator, state in self._torch:
            generator.set_state(state)
        random.setstate(self._python)
        if self._numpy_used():
            np.random.set_bit_generator(self._bits)  # type: ignore[attr-defined]  # not in NumPy's stubs
            np.random.set_state(self._numpy_state)

    def _numpy_used(self) -> bool:
        replaced = _numpy_bits() is not self._bits
        # A normal number that waits in ``has_gauss`` is used up without a trace in the bytes.
        return replaced or self._numpy != self._read_numpy() or bool(self._numpy_state["has_gauss"])


def _numpy_bits() -> Any:
    return np.random.get_bit_generator()  # type: ignore[attr-defined]  # not in NumPy's stubs


def _twister(bits: Any) -> Callable[[], object]:
    """Reads the bytes of a Mersenne Twister; for another generator it gives something new at each call."""
    if not isinstance(bits, np.random.MT19937):
        return object
    block = (ctypes.c_uint32 * 625).from_address(bits.ctypes.state_address)  # 624 words and the position
    return memoryview(block).cast("B").tobytes


def _torch_generators(device: torch.device) -> list[torch.Generator]:
    if device.type == "cuda":
        return [torch.default_generator, torch.cuda.default_generators[device.index or 0]]
    return [torch.default_generator, *([torch.mps._get_default_mps_generator()] if device.type == "mps" else [])]
