"""Every state that a power cut can leave on the disk, rebuilt from the calls that a run made.

The calls of ``os`` on the run directory are recorded. From every beginning of that list follow the states that the disk
may be in if the power fails there: what was written and not flushed is lost, torn, zeros or there; a name that was
given or taken in a folder that was not flushed is as before or as after. Whatever state it is, the run must go on from
the last step whose save had returned, or from a newer one.
"""

import json
import os
import stat
import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain, product, zip_longest
from pathlib import Path

import pytest

import ptb
import ptb.runs.recorder
from ptb import ConfigError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.runs.overrides import resume_config
from ptb.runs.start import start_run
from ptb.storage import atomic
from ptb.storage.checkpoint import CorruptCheckpoint, find_checkpoints, latest_valid, load_checkpoint, prune_checkpoints
from ptb.storage.run_directory import RunDirectory, check_output, read_json

KEEP, STEPS = 2, 8  # two steps in each of four epochs: saved at 0, 2, 4, 6, 8
CONFIG = {
    "device": "cpu",
    "model": {"name": "net"},
    "dataset": {"name": "line"},
    "loader": {"batch_size": 6},
    "optimizer": {"name": "adam", "lr": 0.05},
    "trainer": {"epochs": 4, "keep_last": KEEP},
}


@pytest.fixture(autouse=True)
def _only_the_model_of_the_disk_is_flushed(monkeypatch):
    monkeypatch.setattr(os, "fsync", nothing)


@dataclass
class File:
    """What was written, and what of it was flushed."""

    data: bytes = b""
    safe: bytes = b""

    def after_a_stop(self):
        """What may be left, each once: what is safe, and all, some or zeros of what was added to it, or taken away."""
        if self.safe.startswith(self.data):
            return {self.safe, self.data}
        same = len(self.safe) if self.data.startswith(self.safe) else 0
        rest = len(self.data) - same
        cuts = [self.data[: same + taken] for taken in (rest // 2, rest - 1, rest)]
        return {self.safe, *cuts, *(self.data[:same] + bytes(n) + self.data[same + n :] for n in (rest // 2, rest))}


@dataclass
class Machine:
    """A disk with the folder of a run, and the states that it may be in after a stop; a folder has no file."""

    root: Path
    names: dict[Path, File | None] = field(default_factory=dict)
    safe: dict[Path, File | None] = field(default_factory=dict)
    pending: list[tuple[Path, Path | None, Path | None, File | None]] = field(default_factory=list)
    opened: dict[int, File] = field(default_factory=dict)

    @classmethod
    def holding(cls, root):
        machine = cls(root)
        for path, data in _there(root).items():
            machine.names[path] = None if data is None else File(data, data)
        machine.safe = dict(machine.names)
        return machine

    def rename(self, folder, old, new, what):
        self.pending.append((folder, old, new, what))
        _apply(self.names, old, new, what)

    def do(self, call, *facts):
        getattr(self, f"do_{call}")(*facts)

    def do_mkdir(self, path):
        self.rename(path.parent, None, path, None)

    def do_open(self, path, number, is_emptied):
        if path not in self.names:
            self.rename(path.parent, None, path, File())
        self.opened[number] = self.names[path]
        if is_emptied:
            self.names[path].data = b""

    def do_write(self, number, data):
        self.opened[number].data += data

    def do_flush(self, number):
        self.opened[number].safe = self.opened[number].data

    def do_replace(self, old, new):
        self.rename(new.parent, old, new, self.names[old])

    def do_unlink(self, path):
        self.rename(path.parent, path, None, None)

    def do_flush_folder(self, folder):
        for change in self.pending:
            if change[0] == folder:
                _apply(self.safe, *change[1:])
        self.pending = [change for change in self.pending if change[0] != folder]

    def after_a_stop(self):
        """The contents of the disk by path, None for a folder."""
        for kept in _choices(len(self.pending)):
            names = dict(self.safe)
            for keep, change in zip(kept, self.pending, strict=True):
                if keep:
                    _apply(names, *change[1:])
            files = [file for path, file in names.items() if file and path.name != "log.txt"]
            unsafe = [file for file in files if file.data != file.safe]
            for contents in _contents(unsafe):
                chosen = {id(file): data for file, data in zip(unsafe, contents, strict=True)}
                yield {
                    path: file and chosen.get(id(file), file.safe)
                    for path, file in names.items()
                    if path == self.root or path.parent in names
                }


def _there(root):
    paths = [path for path in [root, *root.rglob("*")] if path.name != ".lock"]
    return {path: None if path.is_dir() else path.read_bytes() for path in paths}


def _apply(names, old, new, what):
    if old is not None:
        names.pop(old, None)
    if new is not None:
        names[new] = what


def _contents(files):
    """What may be left of files: every choice for a few; else all of them in one way, or one that is not whole."""
    left = [sorted(file.after_a_stop()) for file in files]
    if len(files) <= 2:
        return product(*left)
    whole = [file.data for file in files]
    alone = ((*whole[:place], each, *whole[place + 1 :]) for place, some in enumerate(left) for each in some)
    return chain(zip_longest(*left, fillvalue=b""), alone)


def _choices(number):
    """Which of so many changes are there: every choice of a few; else the first ones, all but one, or one."""
    if number <= 4:
        return product((False, True), repeat=number)
    first = [tuple(place < kept for place in range(number)) for kept in range(number + 1)]
    but_one = [tuple((place == one) is only for place in range(number)) for one in range(number) for only in (0, 1)]
    return first + [tuple(map(bool, each)) for each in but_one]


def record(patch, root, disk):
    """Lists from now on every call that changes the disk, and every save that returns."""
    calls, opened, numbers = [], {}, iter(range(10**9))

    def through(name, path, do, arguments):
        result = do(*arguments)
        if path.name == ".lock":
            return result
        if name == "open" and arguments[1] & (os.O_WRONLY | os.O_RDWR):
            opened[result] = next(numbers)
            calls.append(("open", path, opened[result], bool(arguments[1] & os.O_TRUNC)))
        elif name == "close":
            opened.pop(arguments[0], None)
        elif name == "write":
            calls.append(("write", opened[arguments[0]], bytes(arguments[1][:result])))
        elif name == "fsync":
            calls.append(("flush", opened[arguments[0]]) if arguments[0] in opened else ("flush_folder", path))
        elif name in ("mkdir", "unlink"):
            calls.append((name, path))
        elif name == "replace":
            calls.append((name, *map(Path, arguments)))
        return result

    disk(patch, root, through)
    real_save = ptb.runs.recorder.save_checkpoint

    def save(folder, step, state, metadata):
        path = real_save(folder, step, state, metadata)
        calls.append(("saved", step, metadata["labels"].get("best")))
        return path

    patch.setattr(ptb.runs.recorder, "save_checkpoint", save)
    return calls


@dataclass
class Case:
    """A state of the disk, and what had been promised before: steps that were saved, the best of the last of them."""

    number: int
    state: dict[Path, bytes | None]
    saved: tuple[int, ...]
    best: int | None


def cases(calls, machine, saved=(), best=None):
    """Every state after every beginning of the calls, each once for the same promises."""
    seen = set()
    for number in range(len(calls) + 1):
        for state in machine.after_a_stop():
            key = (frozenset(state.items()), saved)
            if key not in seen:
                seen.add(key)
                yield Case(number, state, saved, best)
        if number < len(calls):
            call, *facts = calls[number]
            if call == "saved":
                saved, best = (*saved, facts[0]), facts[1]
            else:
                machine.do(call, *facts)


def rebuild(case, root, place):
    for path in sorted([place, *place.rglob("*")], reverse=True) if place.exists() else []:
        if not path.is_dir():
            path.unlink()
        elif case.state.get(root / path.relative_to(place), b"") is not None:
            path.rmdir()
    for path, data in sorted(case.state.items()):
        here = place / path.relative_to(root)
        if data is None:
            here.mkdir(exist_ok=True)
        else:
            here.write_bytes(data)


def problems(case, place, rows, damaged=False):
    """What a run finds that begins or goes on in a state, and what of it breaks the promises."""
    run = RunDirectory(place)
    if not run.is_started():
        try:
            check_output(place)
        except ConfigError as error:
            return [f"it can neither begin nor go on: {error}"]
        return ["the run is gone"] if case.saved else []
    found, told = [], []
    with run.writing():
        try:
            resume_config(run)
            newest = latest_valid(run.checkpoints, read_json(run.manifest).get("run"), told.append)
        except ptb.PtbError as error:
            return [str(error)]
    if told and not damaged:
        found.append(f"a file that is not whole has the name of a checkpoint: {told}")
    if case.saved and "run" not in read_json(run.manifest):
        found.append("the manifest is lost")
    there = set()
    for step, path in find_checkpoints(run.checkpoints).items():
        try:
            there.add(load_checkpoint(path).step)
        except CorruptCheckpoint:
            found.append(f"the checkpoint of step {step} is damaged")
    if len(there) < min(KEEP, len(case.saved)):
        found.append(f"{there} are intact after {len(case.saved)} saves")
    if case.best is not None and case.best not in there:
        found.append(f"the best, of step {case.best}, is lost")
    if any(atomic.is_temporary(path.name) for path in place.rglob("*")):
        found.append("a temporary is left")
    if newest is None:
        return found + (["nothing is left of it"] if case.saved else [])
    if case.saved and newest.step < case.saved[-1]:
        found.append(f"step {case.saved[-1]} was saved, and it goes on from {newest.step}")
    counted = newest.decode()["train_state"]["rows_logged"]
    lines = run.metrics.read_text(errors="replace").split("\n")[:-1] if run.metrics.exists() else []
    if lines[:counted] != rows[:counted] or len(lines) < counted:
        found.append(f"the checkpoint counts {counted} rows, and there are {len(lines)}")
    if not run.truncate_rows(counted) or (
        counted and run.metrics.read_text() != "".join(f"{row}\n" for row in lines[:counted])
    ):
        found.append("the rows cannot be cut")
    return found


def all_problems(calls, machine, place, damaged=False, **promised):
    """What breaks the promises in any state; the run is at its end."""
    rows = (machine.root / "metrics.jsonl").read_text().splitlines()
    for case in cases(calls, machine, **promised):
        rebuild(case, machine.root, place)
        for each in problems(case, place, rows, damaged):
            yield f"call {case.number}: {each}"


def to_the_end(case, root, place, tiny):
    """Begins or goes on, and trains to the end."""
    rebuild(case, root, place)
    with warnings.catch_warnings(action="ignore"):
        if RunDirectory(place).is_started():
            return ptb.resume(place, registry=tiny)
        return ptb.train(RunConfig(**CONFIG), registry=tiny, output=place)


def figures(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "samples_per_second"} for row in rows]


@pytest.fixture
def whole(tiny, tmp_path, monkeypatch, disk):
    """The calls of a run from its first to its last, the disk before them, and how it ended."""
    return recorded(tiny, tmp_path / "one", monkeypatch, disk)


@pytest.fixture
def resumed(tiny, tmp_path, monkeypatch, disk):
    """The calls of a run that goes on after its newest checkpoint was damaged; the disk as it was before them."""
    root = tmp_path / "two"
    start_run(compose(resolve(RunConfig(**CONFIG), tiny)), root, stop_after=5)
    newest = find_checkpoints(root / "checkpoints")[5]
    newest.write_bytes(newest.read_bytes()[:-1])
    with (root / "metrics.jsonl").open("a") as rows:
        rows.write('{"step": 6, "epoch": 3}\n{"step"')
    (root / "checkpoints" / f".ckpt-6.{'0' * 16}.tmp").write_text("killed")
    machine = Machine.holding(root)
    with monkeypatch.context() as patch:
        calls = record(patch, root, disk)
        with pytest.warns(UserWarning, match=r"damaged.*it is kept as \.corrupt-ckpt-5"):
            result = ptb.resume(root, registry=tiny)
    return calls, machine, result


def recorded(tiny, root, monkeypatch, disk, mutate=lambda patch: None):
    with monkeypatch.context() as patch:
        calls = record(patch, root, disk)
        mutate(patch)
        result = ptb.train(RunConfig(**CONFIG), registry=tiny, output=root)
    return calls, Machine(root), result


def test_the_run_that_is_looked_at_saves_and_prunes_and_keeps_its_best(whole):
    calls, machine, _ = whole
    assert [call[1:] for call in calls if call[0] == "saved"] == [(0, None), (2, 2), (4, 2), (6, 2), (8, 2)]
    removed = [call[1].name.split("-")[1] for call in calls if call[0] == "unlink"]
    assert removed == ["0", "4"]
    assert list(find_checkpoints(machine.root / "checkpoints")) == [2, 6, 8]


@pytest.mark.parametrize("which", ["whole", "resumed"])
def test_the_model_of_the_disk_ends_as_the_disk_did(which, request):
    calls, machine, _ = request.getfixturevalue(which)
    for call, *facts in calls:
        if call != "saved":
            machine.do(call, *facts)
    assert {path: file and file.data for path, file in machine.names.items()} == _there(machine.root)


def test_no_stop_of_the_machine_loses_a_step_that_was_saved(whole, tmp_path):
    calls, machine, _ = whole
    assert len([*cases(calls, deepcopy(machine))]) > 100
    assert [*all_problems(calls, machine, tmp_path / "state")] == []


def test_no_stop_of_the_machine_loses_a_step_while_a_run_goes_on_past_a_damaged_checkpoint(resumed, tmp_path):
    calls, machine, _ = resumed
    assert len([*cases(calls, deepcopy(machine))]) > 70
    assert [*all_problems(calls, machine, tmp_path / "state", damaged=True, saved=(0, 2, 4), best=2)] == []


@pytest.mark.parametrize(
    "every", [pytest.param(60, id="some"), pytest.param(1, id="all", marks=pytest.mark.reliability)]
)
@pytest.mark.parametrize("which", ["whole", "resumed"])
def test_from_every_state_the_run_ends_as_if_nothing_had_happened(which, every, request, tiny, tmp_path):
    calls, machine, result = request.getfixturevalue(which)
    expected, place = figures(machine.root), tmp_path / "state"
    for case in [*cases(calls, machine)][::every]:
        again = to_the_end(case, machine.root, place, tiny)
        assert again.weights_sha256 == result.weights_sha256, case.number
        assert figures(place) == expected, case.number


def nothing(*_):
    pass


def never_flushes(patch, is_meant):
    real = os.fsync
    patch.setattr(os, "fsync", lambda file: None if is_meant(os.fstat(file).st_mode) else real(file))


def never_flushes_files(patch):
    never_flushes(patch, stat.S_ISREG)


def never_flushes_folders(patch):
    never_flushes(patch, stat.S_ISDIR)


def write_directly(path, content):
    data = content if isinstance(content, bytes) else content.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, data)
    return descriptor


def writes_under_the_name(patch):
    def write(path, content):
        descriptor = write_directly(path, content)
        os.fsync(descriptor)
        os.close(descriptor)
        atomic.sync_folder(path.parent)

    patch.setattr(atomic, "write_atomically", write)


def flushes_after_the_rename(patch):
    def write(path, content):
        temporary = path.with_name(f".{path.name}.{'0' * 16}.tmp")
        os.close(write_directly(temporary, content))
        os.replace(temporary, path)
        atomic.sync_file(path)

    patch.setattr(atomic, "write_atomically", write)


def deletes_before_it_writes(patch):
    save = ptb.runs.recorder.save_checkpoint

    def delete_and_save(folder, *facts):
        for path in find_checkpoints(folder).values():
            os.unlink(path)
        return save(folder, *facts)

    patch.setattr(ptb.runs.recorder, "save_checkpoint", delete_and_save)


def prunes_before_it_saves(patch):
    save = ptb.runs.recorder.save_checkpoint

    def prune_and_save(folder, *facts):
        prune_checkpoints(folder, KEEP - 1)
        return save(folder, *facts)

    patch.setattr(ptb.runs.recorder, "save_checkpoint", prune_and_save)


def forgets_the_best(patch):
    patch.setattr("ptb.storage.checkpoint._labels", lambda metadata: {})


def never_flushes_the_rows(patch):
    patch.setattr(RunDirectory, "sync_rows", nothing)


@pytest.mark.parametrize(
    ("mutate", "told"),
    [
        (never_flushes_files, "has the name of a checkpoint"),
        (never_flushes_folders, "the run is gone"),
        (writes_under_the_name, "has the name of a checkpoint"),
        (flushes_after_the_rename, "has the name of a checkpoint"),
        (deletes_before_it_writes, "are intact after"),
        (prunes_before_it_saves, "are intact after"),
        (forgets_the_best, "the best, of step 2, is lost"),
        (never_flushes_the_rows, "rows, and there are"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_run_that_is_less_careful_is_caught(mutate, told, tiny, tmp_path, monkeypatch, disk):
    calls, machine, _ = recorded(tiny, tmp_path / "one", monkeypatch, disk, mutate)
    assert any(told in each for each in all_problems(calls, machine, tmp_path / "state"))


def test_a_run_that_forgets_the_random_numbers_is_caught(whole, tiny, tmp_path, monkeypatch):
    calls, machine, result = whole
    case = [case for case in cases(calls, machine) if case.saved == (0, 2, 4)][-1]
    assert to_the_end(case, machine.root, tmp_path / "state", tiny).weights_sha256 == result.weights_sha256
    monkeypatch.setattr("ptb.training.snapshot.set_random_state", nothing)
    assert to_the_end(case, machine.root, tmp_path / "state", tiny).weights_sha256 != result.weights_sha256
