import errno
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb import StorageError
from ptb.storage import atomic


def failing(code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


def recorded(monkeypatch, *names):
    calls = []

    def record(name, real):
        monkeypatch.setattr(atomic, name, lambda *arguments: (calls.append(name), real(*arguments))[1])

    for name in names:
        record(name, getattr(atomic, name))
    return calls


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.binary())
def test_what_is_written_is_what_was_given(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("files") / "file"
    for each in ("before", content):
        atomic.write_atomically(path, each)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, monkeypatch):
    calls = recorded(monkeypatch, "create", "write", "sync", "close", "read", "replace", "sync_folder", "remove")
    atomic.write_atomically(tmp_path / "file", "text")
    assert calls == ["create", "write", "sync", "close", "read", "replace", "sync_folder"]


def test_two_writers_of_one_file_have_temporaries_of_their_own(tmp_path, monkeypatch):
    real, made = atomic.create, []
    monkeypatch.setattr(atomic, "create", lambda path: (made.append(path), real(path))[1])
    for _ in range(2):
        atomic.write_atomically(tmp_path / "file", "text")
    assert made[0] != made[1]
    assert all(path.parent == tmp_path and atomic.is_temporary(path.name) for path in made)


@pytest.mark.parametrize("call", ["create", "write", "sync", "close", "size_of", "read", "replace"])
def test_a_write_that_fails_leaves_what_was_there(call, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("before")
    monkeypatch.setattr(atomic, call, failing(errno.EIO))
    with pytest.raises(StorageError, match=r"cannot write .*file \(6 bytes\): Input/output error"):
        atomic.write_atomically(tmp_path / "file", "after\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_large_file_is_compared_to_its_last_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PIECE", 10)
    atomic.write_atomically(tmp_path / "file", bytes(25))
    real = atomic.read
    monkeypatch.setattr(atomic, "read", lambda path, start, size: real(path, start, size).replace(b"\2", b"\3"))
    with pytest.raises(StorageError, match="what is read back is not what was written"):
        atomic.write_atomically(tmp_path / "file", bytes(24) + b"\2")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_where_the_disk_is_full_it_is_told_how_much_is_free(code, tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "write", failing(code))
    with pytest.raises(StorageError, match=r"file \(2,000 bytes\): .*; [\d,]+ bytes are free there"):
        atomic.append(tmp_path / "file", "x" * 2000)


def test_what_is_added_is_at_the_end_and_few_bytes_at_once_are_no_fault(tmp_path, monkeypatch):
    real = atomic.write
    monkeypatch.setattr(atomic, "write", lambda descriptor, data: real(descriptor, data[:3]))
    for text in ("one\n", "zwei ö\n"):
        atomic.append(tmp_path / "file", text)
    assert (tmp_path / "file").read_text() == "one\nzwei ö\n"


def test_a_file_is_waited_for_and_then_its_name(tmp_path, monkeypatch):
    calls = recorded(monkeypatch, "sync", "sync_folder")
    atomic.append(tmp_path / "file", "text")
    assert calls == []
    atomic.sync_file(tmp_path / "file")
    assert calls == ["sync", "sync_folder"]


def test_a_file_is_cut_and_waited_for(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("one\ntwo\n")
    calls = recorded(monkeypatch, "sync")
    atomic.cut(tmp_path / "file", 4)
    assert ((tmp_path / "file").read_text(), calls) == ("one\n", ["sync"])


def test_each_folder_is_waited_for_before_the_next_is_made(tmp_path, monkeypatch):
    calls = recorded(monkeypatch, "make_folder", "sync_folder")
    for _ in range(2):
        atomic.make_folders(tmp_path / "a" / "b" / "c")
    assert calls == ["make_folder", "sync_folder"] * 3


def test_a_folder_that_another_run_makes_at_the_same_time_is_no_fault(tmp_path, monkeypatch):
    real = atomic.make_folder
    monkeypatch.setattr(atomic, "make_folder", lambda path: (real(path), real(path)))
    atomic.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("place", ["file", "file/a", "file/a/b"])
def test_a_file_where_a_folder_is_to_be_is_a_fault(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"file"):
        atomic.make_folders(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("code", "is_told"), [(errno.EINVAL, False), (errno.EBADF, False), (errno.EIO, True)], ids=errno.errorcode.get
)
@pytest.mark.skipif(os.name == "nt", reason="Windows cannot open a folder")
def test_a_file_system_that_cannot_wait_for_folders_can_be_written_to(code, is_told, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(code))
    if is_told:
        with pytest.raises(OSError, match=os.strerror(code)):
            atomic.sync_folder(tmp_path)
    else:
        atomic.sync_folder(tmp_path)


def test_a_part_of_a_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    assert [atomic.read(tmp_path / "file", *where) for where in [(), (4,), (4, 2), (8, 9), (20,)]] == [
        *(b"0123456789", b"456789", b"45", b"89", b""),
    ]
    assert atomic.size_of(tmp_path / "file") == 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        atomic.read(tmp_path / "pipe")


def test_temporaries_are_cleared_away_and_nothing_else(tmp_path):
    mine = [".config.toml.0123456789abcdef.tmp2", "a.tmp", ".x.0123456789ABCDEF.tmp", ".0123456789abcdef.tmp"]
    for name in (".config.toml.0123456789abcdef.tmp", ".a.b.ffffffffffffffff.tmp", *mine):
        (tmp_path / name).write_text("")
    atomic.remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(mine)


def test_what_failed_is_named_in_the_words_of_the_system(tmp_path):
    with (
        pytest.raises(StorageError, match=r"^cannot read gone: No such file or directory$"),
        atomic.told("gone", verb="read"),
    ):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    with pytest.raises(KeyError), atomic.told("gone"):
        raise KeyError


HOLD = "import sys; from pathlib import Path; from ptb.storage import atomic\n"
HOLD += "with atomic.locked(Path(sys.argv[1])): print('holds', flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its input ends, or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().strip() == b"holds"
        yield process
        process.kill()


needs_locks = pytest.mark.skipif(atomic.fcntl is None, reason="Windows has no such locks")


@needs_locks
@pytest.mark.parametrize("end", ["kill", "leave"])
def test_a_lock_is_held_until_its_process_ends_in_whatever_way(end, holder, tmp_path):
    for _ in range(2):
        with pytest.raises(StorageError, match="another process writes the run"), atomic.locked(tmp_path / "lock"):
            pytest.fail("two hold the lock")
    if end == "kill":
        holder.kill()
    else:
        holder.stdin.close()
    holder.wait()
    assert (tmp_path / "lock").exists() is (end == "kill")
    with atomic.locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


@needs_locks
def test_a_lock_that_was_removed_while_it_was_waited_for_is_taken_anew(tmp_path, monkeypatch):
    real, times = atomic.fcntl.lockf, []

    def lockf(descriptor, how):
        times.append(os.fstat(descriptor).st_ino)
        if len(times) < 3:  # the one who had it ends just now
            (tmp_path / "lock").rename(tmp_path / f"old{len(times)}")
        real(descriptor, how)

    monkeypatch.setattr(atomic.fcntl, "lockf", lockf)
    with atomic.locked(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_ino == times[-1]
    assert len(times) == 3
    assert all(one != other for one, other in pairwise(times))


@needs_locks
@pytest.mark.parametrize(("code", "is_told"), [(errno.ENOLCK, False), (errno.EIO, True)], ids=errno.errorcode.get)
def test_a_file_system_without_locks_can_be_written_to(code, is_told, tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.fcntl, "lockf", failing(code))
    if is_told:
        with pytest.raises(StorageError, match=r"cannot write .*lock"), atomic.locked(tmp_path / "lock"):
            pass
    else:
        with atomic.locked(tmp_path / "lock"):
            pass


def test_a_lock_that_cannot_be_removed_is_free(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "remove", failing(errno.EACCES))
        with atomic.locked(tmp_path / "lock"):
            pass
    with atomic.locked(tmp_path / "lock"):
        pass


def test_it_imports_no_torch():
    code = "import sys, ptb.storage.atomic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
