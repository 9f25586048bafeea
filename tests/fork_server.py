"""Runs Python programs in forks of one process that has imported torch already, which is what takes most of their time.

Each program has a process, a working folder, an environment and streams of its own, as with ``subprocess.run``.
"""

import atexit
import gc
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

# What a run of the built-in components imports.
PRELOADED = (
    *("ptb.cli.run", "ptb.runs.start", "ptb.runs.evaluate", "rich.progress", "sklearn.datasets", "tomlkit"),
    *("packaging.requirements", "packaging.tags", "torch.profiler"),
)
PIXELS = 64_000_000  # to which OpenCV keeps; the default of the data sets of pictures
# They are read when Python or a library starts, which the forked process has done already.
FIXED = ("PYTHON", "OMP_", "MKL_", "COVERAGE")


class ForkServer:
    """Starts the process that forks; ``close`` ends it."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        command: Sequence[object],
        *,
        cwd: Path,
        env: dict[str, str] | None = None,
        input: str = "",
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with ``capture_output=True, text=True``.

        Raises:
            subprocess.TimeoutExpired: the program takes longer than ``timeout`` seconds, and was ended.
        """
        python, *words = map(str, command)
        env = dict(os.environ) if env is None else env
        if python != sys.executable or not self._can_fork(env):
            return subprocess.run(
                [python, *words], cwd=cwd, env=env, input=input, capture_output=True, text=True, timeout=timeout
            )
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "in").write_text(input)
            request = {"words": words, "cwd": str(cwd), "env": env, "folder": folder, "timeout": timeout}
            code = self._ask(request)
            out, err = (Path(folder, name).read_text() for name in ("out", "err"))
        if code is None:
            raise subprocess.TimeoutExpired([python, *words], timeout, out, err)
        return subprocess.CompletedProcess([python, *words], code, out, err)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate(timeout=60)

    def _can_fork(self, env: dict[str, str]) -> bool:
        names = {name for name in {*env, *self._environment} if name.startswith(FIXED)} - {"PYTHONPATH"}
        return hasattr(os, "fork") and all(env.get(name) == self._environment.get(name) for name in names)

    def _ask(self, request: dict[str, Any]) -> int | None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def serve() -> list[str] | None:
    """Answers requests; in each fork it returns the words of the program to run there."""
    for name in PRELOADED:
        __import__(name)
    from ptb.registry.discovery import find_plugins
    from ptb.runs.provenance import content_hashes

    for package in (point.module for point in entry_points(group="ptb") if point.dist.name == "pytorch-basics"):
        for module in pkgutil.iter_modules(__import__(package).__path__, f"{package}."):
            __import__(module.name)
    content_hashes(next(found for found in find_plugins() if found.built_in))  # read once, not in each fork
    from ptb_datasets.picture_form import opencv

    opencv(PIXELS)  # by ptb, which sets its limits first
    for each in weakref.finalize._registry:  # torch's libraries, which no program need take down
        each.atexit = False
    gc.freeze()  # otherwise a collection in a fork copies all of torch
    while line := sys.stdin.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            prepare(request)
            return request["words"]
        print(json.dumps(wait(pid, request["timeout"])), flush=True)
    return None


def wait(pid: int, seconds: float) -> int | None:
    """The exit code of a child, as ``subprocess`` gives it; None for one that takes too long and is ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.003)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def prepare(request: dict[str, Any]) -> None:
    """Make the process that of the program."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, name in enumerate(("in", "out", "err")):
        file = os.open(os.path.join(request["folder"], name), os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # it is the standard input as long as the process lives
    sys.path[:1] = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def execute(words: list[str]) -> None:
    """Run a program as ``python`` does: ``-m MODULE``, ``-c CODE`` or a file; ``-P`` before it is known, too."""
    import runpy

    if words[0] == "-P":
        del sys.path[0], words[0]
    option, *rest = words
    if option == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        sys.path[0] = os.path.dirname(os.path.abspath(option))
        runpy.run_path(option, run_name="__main__")


def end(words: list[str]) -> NoReturn:
    """Run a program and end as Python does, but for taking all modules down, which takes as long as the program."""
    code: Any = 0
    try:
        execute(words)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if isinstance(code, str) else code or 0)


if __name__ == "__main__" and (program := serve()) is not None:
    end(program)
