"""A disk that is full, fails, or is somebody else's, at every call by which a run reads or writes it."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

import ptb
import ptb.runs.recorder
from ptb import ConfigError, RunConfig, StorageError
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.runs.start import start_run
from ptb.storage import atomic
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint

resource = pytest.importorskip("resource", reason="limits and signals of POSIX")

KEEP = 2
CONFIG = {
    "device": "cpu",
    "model": {"name": "net"},
    "dataset": {"name": "line"},
    "loader": {"batch_size": 6},
    "optimizer": {"name": "adam", "lr": 0.05},
    "trainer": {"epochs": 3, "keep_last": KEEP},
}
CALLS = [
    *("open", "write", "fsync", "close", "replace", "unlink", "read", "stat", "fstat", "lstat", "mkdir", "listdir"),
]
CODES = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT]


@dataclass
class Setting:
    """What a test of the tiny run needs: how the run ends where nothing fails, and its beginning."""

    registry: object
    disk: type
    whole: Path
    half: Path
    weights: str
    reached: dict[str, Counter] = field(default_factory=dict)

    def begin(self, output):
        return ptb.train(RunConfig(**CONFIG), registry=self.registry, output=output)

    def go_on(self, output):
        if not (output / "config.toml").exists():
            return self.begin(output)
        with warnings.catch_warnings(action="ignore"):  # the manifest may be what could not be written
            return ptb.resume(output, registry=self.registry)

    def act(self, task, output, patch, through):
        """Begins or resumes a run whose calls of the disk go through ``through``."""
        if task == "resume":
            shutil.copytree(self.half, output)
        self.disk(patch, output, through)
        return self.begin(output) if task == "run" else ptb.resume(output, registry=self.registry)


@pytest.fixture
def setting(tiny, disk, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the machine does not stop here
    whole, half = tmp_path / "whole", tmp_path / "half"
    result = ptb.train(RunConfig(**CONFIG), registry=tiny, output=whole)
    start_run(compose(resolve(RunConfig(**CONFIG), tiny)), half, stop_after=3)
    (half / "checkpoints" / f".ckpt-4.{'0' * 16}.tmp").write_text("killed")
    with (half / "metrics.jsonl").open("a") as rows:
        rows.write('{"step": 4}\n{"st')
    setting = Setting(tiny, disk, whole, half, result.weights_sha256)
    for task in ("run", "resume"):
        reached = setting.reached[task] = Counter()

        def counted(name, path, do, arguments, reached=reached):
            reached[name] += 1
            return do(*arguments)

        with monkeypatch.context() as patch:
            setting.act(task, tmp_path / f"counted-{task}", patch, counted)
    return setting


def failing(name, at, error, lasting=False):
    """A disk on which a call fails at the time that is named, or from then on."""
    times = count(1)

    def through(called, path, do, arguments):
        if called == name and ((time := next(times)) == at or (lasting and time > at)):
            if name == "write":  # by then half of it is done
                do(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if name == "close":
                do(*arguments)
            raise error
        return do(*arguments)

    return through


def system_error(code):
    return OSError(code, os.strerror(code))


def watch_saves(patch):
    """The files of every save that returned, and what the last of them calls the best."""
    saved, real = {}, ptb.runs.recorder.save_checkpoint

    def save(folder, step, state, metadata):
        path = real(folder, step, state, metadata)
        saved[path] = (path.read_bytes(), metadata["labels"].get("best"))
        return path

    patch.setattr(ptb.runs.recorder, "save_checkpoint", save)
    return saved


def figures(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "samples_per_second"} for row in rows]


def temporaries(run):
    """What nobody needs any more; a checkpoint that was renamed would be one that was not whole."""
    return [
        path for path in run.rglob("*") if atomic.is_temporary(path.name) or path.name.startswith((".lock", ".corr"))
    ]


def check_kept(output, before, saved):
    """Whatever failed: what was saved is there, byte for byte, as many as are to be kept, and the best."""
    there = find_checkpoints(output / "checkpoints")
    known = {**before, **saved}
    for path in there.values():
        load_checkpoint(path)
        if path in known:
            assert path.read_bytes() == known[path][0]
    assert len(there) >= min(KEEP, len(known))
    if known:
        path, (_, best) = [*known.items()][-1]
        assert path in there.values()
        assert best is None or best in there


def check_fault(setting, output, task, name, at, code, lasting, monkeypatch):
    with monkeypatch.context() as patch:
        saved, before = watch_saves(patch), {}
        if task == "resume":
            for path in find_checkpoints(setting.half / "checkpoints").values():
                best = load_checkpoint(path).metadata["labels"].get("best")
                before[output / "checkpoints" / path.name] = (path.read_bytes(), best)
        try:
            result = setting.act(task, output, patch, failing(name, at, system_error(code), lasting))
        except ptb.PtbError as error:
            failed = error
        else:
            failed = None
            assert result.weights_sha256 == setting.weights
    if failed is None:
        assert name in ("close", "unlink")  # of the lock, which is free nevertheless
    else:
        refused = isinstance(failed, ConfigError) and "the output directory" in str(failed)
        assert isinstance(failed, StorageError) or (refused and code != errno.EIO), failed
        assert str(output) in str(failed)
        assert os.strerror(code) in str(failed)
        assert name != "write" or re.search(r"\([\d,]+ bytes\)", str(failed))
        summary = output / "summary.json"
        ended = json.loads(summary.read_text())["status"] if summary.exists() else "killed"
        assert ended != "finished" or summary.name in str(failed)  # the name of the summary could not be flushed
    check_kept(output, before, saved)
    assert setting.go_on(output).weights_sha256 == setting.weights
    assert figures(output) == figures(setting.whole)
    assert temporaries(output) == []


def test_every_call_is_reached(setting):
    assert {*setting.reached["run"]} == {*CALLS}
    assert {*setting.reached["resume"]} == {*CALLS} - {"mkdir"}


@pytest.mark.parametrize("task", ["run", "resume"])
def test_a_call_that_fails_once_costs_nothing_that_was_saved(task, setting, tmp_path, monkeypatch):
    for name, times in setting.reached[task].items():
        for at in sorted({1, -(-times // 2), times}):
            check_fault(setting, tmp_path / f"{name}-{at}", task, name, at, CODES[at % 4], False, monkeypatch)


@pytest.mark.reliability
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("task", ["run", "resume"])
@pytest.mark.parametrize("name", CALLS)
def test_any_call_may_fail_at_any_time(task, name, lasting, setting, tmp_path, monkeypatch):
    for at in range(1, setting.reached[task][name] + 1):
        code = errno.ENOSPC if lasting else CODES[at % 4]
        check_fault(setting, tmp_path / str(at), task, name, at, code, lasting, monkeypatch)
        shutil.rmtree(tmp_path / str(at))


@pytest.mark.parametrize("name", ["write", "replace", "fsync"])
def test_ctrl_c_while_something_is_written_leaves_no_temporary(name, setting, tmp_path, monkeypatch):
    for at in range(2, setting.reached["run"][name], 4):
        output = tmp_path / str(at)
        with monkeypatch.context() as patch:
            saved = watch_saves(patch)
            with pytest.raises(KeyboardInterrupt):
                setting.act("run", output, patch, failing(name, at, KeyboardInterrupt()))
        assert temporaries(output) == []
        check_kept(output, {}, saved)
        assert setting.go_on(output).weights_sha256 == setting.weights


def test_a_system_that_takes_few_bytes_at_once_gets_them_all(setting, tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:1000]))
    assert setting.begin(tmp_path / "run").weights_sha256 == setting.weights
    assert [*find_checkpoints(tmp_path / "run" / "checkpoints")] == [2, 4, 6]


def test_a_system_that_takes_no_bytes_is_no_endless_loop(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
    with pytest.raises(StorageError, match=r"cannot write .*config\.toml \([\d,]+ bytes\): the system takes no more"):
        setting.begin(tmp_path / "run")


@pytest.mark.parametrize("at", [0, 5, -1])
def test_bytes_that_are_read_back_as_others_get_no_name(at, setting, tmp_path, monkeypatch):
    def through(name, path, do, arguments):
        if name == "write" and path.name.startswith(".ckpt-"):
            data = bytearray(arguments[1])
            data[at] ^= 1
            arguments = (arguments[0], data)
        return do(*arguments)

    told = pytest.raises(StorageError, match=r"ckpt-0-.*what is read back is not what was written")
    with monkeypatch.context() as patch, told:
        setting.act("run", tmp_path / "run", patch, through)
    assert [*(tmp_path / "run" / "checkpoints").iterdir()] == []
    assert setting.go_on(tmp_path / "run").weights_sha256 == setting.weights


def test_a_run_that_cannot_begin_can_begin_later(setting, tmp_path, monkeypatch):
    for name in ("config.toml", "manifest.json"):
        output = tmp_path / name

        def through(called, path, do, arguments, name=name):
            if called == "replace" and Path(arguments[1]).name == name:
                raise system_error(errno.EIO)
            return do(*arguments)

        with monkeypatch.context() as patch, pytest.raises(StorageError, match=f"cannot write .*{name}"):
            setting.act("run", output, patch, through)
        assert setting.go_on(output).weights_sha256 == setting.weights


def test_a_run_that_cannot_be_taken_up_keeps_its_summary(setting, monkeypatch):
    before = (setting.whole / "summary.json").read_bytes()
    setting.disk(monkeypatch, setting.whole, failing("lstat", 1, system_error(errno.EIO)))
    with pytest.raises(StorageError, match=r"cannot read .*ckpt-\d-"):
        ptb.resume(setting.whole, registry=setting.registry)
    assert (setting.whole / "summary.json").read_bytes() == before


def test_a_run_whose_manifest_is_gone_goes_on_and_stays_one_run(setting, monkeypatch):
    (setting.half / "manifest.json").unlink()
    with monkeypatch.context() as patch:
        # the manifest is written, the next checkpoint is not
        setting.disk(patch, setting.half, failing("replace", 3, system_error(errno.EIO)))
        with pytest.warns(UserWarning, match=r"no manifest\.json"), pytest.raises(StorageError):
            ptb.resume(setting.half, registry=setting.registry)
    assert ptb.resume(setting.half, registry=setting.registry).weights_sha256 == setting.weights


LENET = {
    "device": "cpu",
    "threads": 1,
    "model": {"name": "lenet"},
    "loader": {"batch_size": 256},
    "trainer": {"epochs": 4, "keep_last": KEEP},
}


@pytest.fixture
def two_megabytes(tmp_path):
    """A file system of its own; gives its folder, and a way to make it larger."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if shutil.which("mount") is None or (done := mount("size=2m")).returncode:
        pytest.skip(f"no file system can be mounted here{f': {done.stderr}' if shutil.which('mount') else ''}")
    yield folder, lambda: mount("remount,size=8m")
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_system_that_is_full_costs_nothing_that_was_saved(two_megabytes, built_in, tmp_path):
    folder, enlarge = two_megabytes
    whole = ptb.train(RunConfig(**LENET), registry=built_in, output=tmp_path / "whole")
    with pytest.raises(
        StorageError, match=r"ckpt-\d+-.* \([\d,]+ bytes\): No space left on device; [\d,]+ bytes are free there"
    ):
        ptb.train(RunConfig(**LENET), registry=built_in, output=folder / "run")
    saved = find_checkpoints(folder / "run" / "checkpoints")
    assert len(saved) >= KEEP
    assert all(load_checkpoint(path).step == step for step, path in saved.items())
    assert temporaries(folder / "run") == []
    assert enlarge().returncode == 0
    assert ptb.resume(folder / "run", registry=built_in).weights_sha256 == whole.weights_sha256


@pytest.mark.reliability
def test_a_limit_on_the_size_of_files_is_told_by_the_command_line(ptb, built_in, tmp_path):
    from ptb import train

    config = {**LENET, "trainer": {"epochs": 1}}
    arguments = [
        *("run", "--model", "lenet", "--batch-size", 256, "--epochs", 1, "--device", "cpu", "threads=1"),
        *("--output", "run", "--resume", "auto", "-q"),
    ]
    done = ptb(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)))
    assert done.returncode == 5, done.stderr
    assert re.search(
        r"cannot write run/checkpoints/ckpt-\d+-\w+\.safetensors \([\d,]+ bytes\): File too large", done.stderr
    )
    assert "Traceback" not in done.stderr
    assert [*find_checkpoints(tmp_path / "run" / "checkpoints")] == [0]
    assert temporaries(tmp_path / "run") == []
    done = ptb(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    whole = train(RunConfig(**config), registry=built_in, output=tmp_path / "whole")
    assert json.loads(done.stdout)["weights_sha256"] == whole.weights_sha256


HOLD = "import sys, time; from pathlib import Path; from ptb.storage.run_directory import RunDirectory\n"
HOLD += "with RunDirectory(Path(sys.argv[1])).writing(): print('holds', flush=True); time.sleep(60)"


@pytest.fixture
def holder():
    """Another process that writes a run directory until it is killed."""
    processes = []

    def hold(run):
        processes.append(subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "holds\n"
        return processes[-1]

    yield hold
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_until_the_first_has_ended_in_whatever_way(setting, holder):
    before = {path: path.read_bytes() for path in setting.half.rglob("*") if path.is_file()}
    first = holder(setting.half)
    cleared = [path for path in before if atomic.is_temporary(path.name)]
    for _ in range(2):  # a refusal does not free it
        with pytest.raises(StorageError, match=r"another process writes the run .*half; wait for it") as refused:
            ptb.resume(setting.half, registry=setting.registry)
        assert refused.value.exit_code == 5
    assert {path: path.read_bytes() for path in before if path not in cleared} == {
        path: data for path, data in before.items() if path not in cleared
    }
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert ptb.resume(setting.half, registry=setting.registry).weights_sha256 == setting.weights
    assert temporaries(setting.half) == []


def test_a_second_process_that_would_begin_the_same_run_is_refused(setting, holder, tmp_path):
    (tmp_path / "new").mkdir()
    holder(tmp_path / "new")
    with pytest.raises(StorageError, match="another process writes the run"):
        setting.begin(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".lock", "checkpoints"]


@pytest.mark.reliability
def test_two_commands_on_one_run_directory(ptb, tmp_path):
    run = ["run", "--model", "mlp", "--epochs", 10**6, "--device", "cpu", "--output", "run", "-q"]
    command = [sys.executable, "-m", "ptb", *map(str, run), "--resume", "auto"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            assert first.poll() is None
        for second in (["resume", "run", "-q"], [*run, "--resume", "auto"]):
            done = ptb(*second)
            assert (done.returncode, "another process writes the run run" in done.stderr) == (5, True), done.stderr
        assert ptb(*run).returncode == 2
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    newest = max(find_checkpoints(tmp_path / "run" / "checkpoints"))
    done = ptb("resume", "run", "-q", "--stop-after", newest + 1)
    assert done.returncode == 0, done.stderr
