"""A place between ptb and its disk: the functions of ``os``, for what lies in one folder."""

import os
from pathlib import Path

import pytest

ON_PATHS = ("open", "mkdir", "replace", "unlink", "stat", "lstat", "listdir")
ON_DESCRIPTORS = ("read", "write", "fsync", "fstat", "close")


class Disk:
    """Sends every call of ``os`` on a run directory, or on what is in it, through ``through``.

    ``through(name, path, do, arguments)`` returns what the caller gets; ``do(*arguments)`` asks the real disk. Calls on
    the folder that holds the run directory go through it too: there its name is flushed.
    """

    def __init__(self, patch, run, through):
        self._run, self._through, self._opened = str(run), through, {}
        self._places = (self._run, str(Path(run).parent))
        for name in (*ON_PATHS, *ON_DESCRIPTORS):
            patch.setattr(os, name, self._between(name, getattr(os, name)))

    def _between(self, name, real):
        def call(*arguments, **options):
            path = self._path(name, arguments[0] if arguments else ".")
            if path is None or options.get("dir_fd") is not None:
                return real(*arguments, **options)
            try:
                result = self._through(name, path, lambda *given: real(*given, **options), arguments)
            finally:
                if name == "close":
                    self._opened.pop(arguments[0], None)
            if name == "open":
                self._opened[result] = path
            return result

        return call

    def _path(self, name, target):
        if isinstance(target, int):
            return self._opened.get(target) if name in ON_DESCRIPTORS else None
        text = os.fsdecode(target)
        return Path(text) if text in self._places or text.startswith(self._run + os.sep) else None


@pytest.fixture(scope="session")
def disk():
    """The class, because test modules cannot import each other."""
    return Disk


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The names of the calls of ``os`` on ``tmp_path``, as they come; ``.only(...)`` lists some of them."""

    class Calls(list):
        def only(self, *names):
            return [name for name in self if name in names]

    calls = Calls()
    Disk(monkeypatch, tmp_path, lambda name, path, do, arguments: (calls.append(name), do(*arguments))[1])
    return calls


@pytest.fixture
def fail(tmp_path, monkeypatch):
    """``fail(name, code)`` lets every call of that name on ``tmp_path`` fail from now on."""

    def fail(name, code):
        def through(called, path, do, arguments):
            if called == name:
                raise OSError(code, os.strerror(code))
            return do(*arguments)

        Disk(monkeypatch, tmp_path, through)

    return fail
