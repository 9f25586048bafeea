"""Which device a run computes on: never another one than was asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ptb.errors import ConfigError, Problem

# What running out of memory raises: on the host, and on a device.
MEMORY_ERRORS: tuple[type[BaseException], ...] = (MemoryError, torch.OutOfMemoryError)


def is_memory_error(error: BaseException) -> bool:
    """Whether it says that memory ran out; torch's own allocator on the host raises a plain ``RuntimeError``."""
    return isinstance(error, MEMORY_ERRORS) or (isinstance(error, RuntimeError) and "CPUAllocator" in str(error))


def available_devices() -> list[str]:
    """The devices of this machine, best first: ``["cuda:0", "cpu"]``. ``CUDA_VISIBLE_DEVICES`` hides GPUs from it."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def resolve_device(name: str, source: str = "") -> torch.device:
    """The device behind ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` takes the best there is.

    Raises:
        ConfigError: this machine has no such device; the message names those it has.
    """
    present = available_devices()
    wanted = {"auto": present[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in present:
        hint = "" if torch.version.cuda else "; this torch is built without CUDA" if wanted.startswith("cuda") else ""
        if not hint and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            hint = f"; CUDA_VISIBLE_DEVICES={visible!r} leaves no others, and numbers those it leaves from 0"
        message = f"no device '{name}' on this machine{hint}; there is: {', '.join(present)}"
        raise ConfigError(Problem("device", f"{message} (or auto)", source))
    return torch.device(wanted)


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Lets torch compute with that many CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_device(device: torch.device, threads: int) -> str:
    """The device for people: ``cpu (2 threads)`` or ``cuda:0 (NVIDIA H100)``."""
    if device.type == "cpu":
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
