"""Which of several processes this one is, as the launcher or torchrun says in the environment. Imports no torch."""

import os
from dataclasses import dataclass

from ptb.errors import ConfigError

# torchrun sets these, https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
TIMEOUT = "PTB_TIMEOUT"  # seconds that a process waits for the others
LISTENER = "PTB_LISTENER"  # the descriptor of a socket on which rank 0 listens
LAUNCHER = "PTB_LAUNCHER"  # the process that started this one
DEFAULT_TIMEOUT = 600.0
PEER_LOST = 76  # exit code of a process that ends because another one is gone


@dataclass(frozen=True)
class Place:
    """The place of a process among those of a run.

    Attributes:
        rank: its number, from 0.
        size: how many there are, on all hosts.
        local_rank: its number on this host.
        local_size: how many there are on this host.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def speaks(self) -> bool:
        """Whether it writes the run directory and to the terminal."""
        return self.rank == 0


def place() -> Place:
    """The place of this process; raises ``ConfigError`` where the environment contradicts itself."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Place()
    values = []
    for key, default in zip(KEYS, (None, None, "0", os.environ["WORLD_SIZE"]), strict=True):
        text = os.environ.get(key, default) or ""
        if not text.isdecimal():
            raise ConfigError(f"the environment says {key}={text!r}; it must be a whole number, as torchrun sets it")
        values.append(int(text))
    rank, size, local_rank, local_size = values
    if not (rank < size and local_rank < local_size <= size):
        said = " ".join(f"{key}={value}" for key, value in zip(KEYS, values, strict=True))
        raise ConfigError(f"the environment contradicts itself: {said}; start with `ptb run --nproc N` or torchrun")
    return Place(rank, size, local_rank, local_size)


def timeout() -> float:
    """Seconds that a process waits for the others."""
    try:
        return float(os.environ.get(TIMEOUT, DEFAULT_TIMEOUT))
    except ValueError:
        raise ConfigError(f"{TIMEOUT}={os.environ[TIMEOUT]!r} must be a number of seconds") from None
