"""The device of a run: the one that was asked for, or an error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ptb.errors import ConfigError, Problem


def is_memory_error(error: BaseException) -> bool:
    """Whether the host or a device ran out of memory. torch's allocator on the CPU raises a ``RuntimeError`` then."""
    ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return ran_out or (isinstance(error, RuntimeError) and "CPUAllocator" in str(error))


def available_devices() -> list[str]:
    """The devices of this machine, fastest first: ``["cuda:0", "cpu"]``. ``CUDA_VISIBLE_DEVICES`` can hide GPUs."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def resolve_device(name: str, source: str = "") -> torch.device:
    """The device for ``auto`` (the first available one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises a ``ConfigError`` that names ``source`` and lists the devices of this machine, if it has no such device.
    """
    present = available_devices()
    wanted = {"auto": present[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in present:
        hint = "" if torch.version.cuda else "; this torch is built without CUDA" if wanted.startswith("cuda") else ""
        if not hint and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            hint = f"; CUDA_VISIBLE_DEVICES={visible!r} hides all others, and the visible ones are numbered from 0"
        message = f"no device '{name}' on this machine{hint}; available: {', '.join(present)}"
        raise ConfigError(Problem("device", f"{message} (or auto)", source))
    return torch.device(wanted)


def cores() -> int:
    """The number of cores that this process may use; of several processes on this host each has its share."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sharing = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, found // int(sharing)) if sharing.isdecimal() and int(sharing) else found


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Sets the number of torch's CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_device(device: torch.device, threads: int) -> str:
    """The device in words: ``cpu (2 threads)`` or ``cuda:0 (NVIDIA H100)``."""
    if device.type == "cpu":
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
