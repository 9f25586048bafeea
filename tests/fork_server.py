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
from contextlib import ExitStack, suppress
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

# What a run of the built-in components imports.
PRELOADED = (
    *("ptb.cli.run", "ptb.runs.start", "ptb.runs.evaluate", "rich.progress", "sklearn.datasets", "tomlkit"),
    *("packaging.requirements", "packaging.tags", "torch.profiler"),
)
PIXELS = 64_000_000  # to which OpenCV keeps; the default of the data sets of pictures
FORK_RANKS = "PTB_TEST_FORK_RANKS"  # in the environment of a program: the processes that it launches are forks, too
# They are read when Python or a library starts, which the forked process has done already.
FIXED = ("PYTHON", "OMP_", "MKL_", "COVERAGE")


class ForkServer:
    """Starts the process that forks; ``close`` ends it."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._process: subprocess.Popen[str] | None = None
        self._folders = ExitStack()  # of what was started, until the end

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

    def start(self, words: Sequence[object], *, cwd: Path, env: dict[str, str], timeout: float = 300) -> "Started":
        """As ``subprocess.Popen`` of ``python -m WORDS`` with pipes; it is ended after ``timeout`` seconds."""
        folder = self._folders.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        given = {"words": ["-m", *map(str, words)], "cwd": str(cwd), "env": env, "timeout": timeout}
        self._ask(given | {"folder": folder, "background": True})
        return Started(Path(folder))

    def close(self) -> None:
        """End the process."""
        self._folders.close()
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


class Started:
    """A program that ``ForkServer.start`` has started; its process is nobody's child that could be waited for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.returncode: int | None = None
        self.pid = int(self._read("pid"))

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        with suppress(FileNotFoundError):
            self.returncode = int((self._folder / "code").read_text())
        return self.returncode

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Waits for its end; what it has written to both streams."""
        self._read("code", timeout)
        self.poll()
        return (self._folder / "out").read_text(), (self._folder / "err").read_text()

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _read(self, name: str, timeout: float = 120) -> str:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with suppress(FileNotFoundError):
                return (self._folder / name).read_text()
            time.sleep(0.003)
        raise subprocess.TimeoutExpired("fork", timeout)


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
            if request.get("background"):
                look_after(request)
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


def look_after(request: dict[str, Any]) -> None:
    """Returns in a process of its own, whose number and exit code another one writes down."""
    if os.fork():
        os._exit(0)
    if pid := os.fork():
        for name, text in (("pid", lambda: pid), ("code", lambda: wait(pid, request["timeout"]))):
            written = Path(request["folder"], f"{name}.new")
            written.write_text(str(text()))
            written.rename(Path(request["folder"], name))
        os._exit(0)


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


class Forked:
    """As ``subprocess.Popen`` of ``python -m ptb``, which runs in a fork of this process."""

    def __init__(
        self, command: Sequence[str], env: dict[str, str], pass_fds: Sequence[int] = (), **streams: Any
    ) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            become_new(env, pass_fds, streams)
            end([*command[1:]])

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self._waited(os.WNOHANG)

    def wait(self) -> int | None:
        """The exit code."""
        return self._waited(0)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _waited(self, options: int) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode


def become_new(env: dict[str, str], pass_fds: Sequence[int], streams: dict[str, Any]) -> None:
    """Gives up what a new program begins without: handlers of signals, open files, the environment."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if (stream := streams.get(name)) is not None:
            os.dup2(os.open(os.devnull, os.O_RDWR) if stream == subprocess.DEVNULL else stream.fileno(), number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in pass_fds:
            with suppress(OSError):
                os.close(number)
    os.environ.clear()
    os.environ.update(env)


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
    if os.environ.get(FORK_RANKS):
        from ptb.distributed import launcher

        launcher.subprocess = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment]
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
