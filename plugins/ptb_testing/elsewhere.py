"""Another process, whose sets of strings have another order: it builds one data set after the other."""

import atexit
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

SERVER = """
import functools, importlib, json, os, pickle, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path[:] = pickle.load(sys.stdin.buffer)
from ptb.internals import cpu_threads, one_line, seed_global
from ptb_testing.checks.dataset import seen
while True:
    names, target, settings = pickle.load(sys.stdin.buffer)
    if any(list(set(given)) == names for given in (names, names[::-1])):
        answer = {}
    else:
        try:
            module, _, attribute = target.partition(":")
            found = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
            seed_global(1, "conformance")
            with cpu_threads(1):
                answer = seen(found(**settings))
        except BaseException as error:
            answer = {"error": one_line(error)}
    print(json.dumps(answer), file=answers, flush=True)
"""
SEEDS = range(1, 100)


def seen_elsewhere(names: Sequence[str], target: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """What another process sees of a data set, or ``error``: why it cannot be built there.

    Args:
        names: a set of them has another order there.
        target: ``"module:attribute"`` of the data set.
        settings: which it is built from.
    """
    for seed in SEEDS:
        answer = _server(seed, tuple(sys.path)).ask([*names], target, dict(settings))
        if answer:
            break
    return answer


class _Server:
    def __init__(self, seed: int, path: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
        )
        atexit.register(self.close)
        self._send([*path])

    def ask(self, *question: Any) -> dict[str, str]:
        """The answer; empty where a set of the names has the same order here."""
        self._send(question)
        assert self._process.stdout is not None
        try:
            answer: dict[str, str] = json.loads(self._process.stdout.readline())
        except ValueError:
            self.close()
            _server.cache_clear()
            return {"error": f"it ends the process with {self._process.returncode}"}
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(pickle.dumps(message))
        self._process.stdin.flush()


_server = cache(_Server)
