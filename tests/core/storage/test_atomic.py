import errno
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb import StorageError
from ptb.storage import atomic


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.binary())
def test_what_is_written_is_what_was_given(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("files") / "file"
    for each in ("before", content):
        atomic.write_atomically(path, each)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, calls):
    atomic.write_atomically(tmp_path / "file", "text")
    done = calls.only("open", "write", "fsync", "close", "read", "replace", "unlink")
    written = ["open", "write", "fsync", "close"]
    assert done == [*written, "open", "read", "read", "close", "replace", "open", "fsync", "close"]


def test_two_writers_of_one_file_have_temporaries_of_their_own(tmp_path, monkeypatch, disk):
    made = []

    def through(name, path, do, arguments):
        if name == "replace":
            made.append(path)
        return do(*arguments)

    disk(monkeypatch, tmp_path, through)
    for _ in range(2):
        atomic.write_atomically(tmp_path / "file", "text")
    assert made[0] != made[1]
    assert all(path.parent == tmp_path and atomic.is_temporary(path.name) for path in made)


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "fstat", "read", "replace"])
def test_a_write_that_fails_leaves_what_was_there(call, tmp_path, monkeypatch, fail):
    (tmp_path / "file").write_text("before")
    fail(call, errno.EIO)
    with pytest.raises(StorageError, match=r"cannot write .*file \(6 bytes\): Input/output"):
        atomic.write_atomically(tmp_path / "file", "after\n")
    monkeypatch.undo()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("read_back", [bytes(24) + b"\3", bytes(24), bytes(26), b""], ids=["other", "less", "more", ""])
def test_a_large_file_is_compared_to_its_last_byte(read_back, tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PIECE", 10)
    atomic.write_atomically(tmp_path / "file", bytes(25))
    pieces = [read_back[start : start + 10] for start in range(0, 30, 10)]
    monkeypatch.setattr(os, "read", lambda descriptor, size: pieces.pop(0) if pieces else b"")
    with pytest.raises(StorageError, match="what is read back is not what was written"):
        atomic.write_atomically(tmp_path / "file", bytes(25))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_where_the_disk_is_full_the_message_says_how_much_is_free(code, tmp_path, fail):
    fail("write", code)
    with pytest.raises(StorageError, match=r"file \(2,000 bytes\): .*; [\d,]+ bytes are free there"):
        atomic.append(tmp_path / "file", "x" * 2000)


def test_what_is_appended_is_at_the_end_even_where_the_system_takes_few_bytes_at_once(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    for text in ("one\n", "zwei ö\n"):
        atomic.append(tmp_path / "file", text)
    assert (tmp_path / "file").read_text() == "one\nzwei ö\n"


def test_a_file_is_flushed_and_then_its_name(tmp_path, calls):
    atomic.append(tmp_path / "file", "text")
    assert "fsync" not in calls
    atomic.sync_file(tmp_path / "file")
    assert calls.only("fsync") == ["fsync", "fsync"]


def test_each_folder_is_flushed_before_the_next_is_made(tmp_path, calls):
    for _ in range(2):
        atomic.make_folders(tmp_path / "a" / "b" / "c")
    assert calls.only("mkdir", "fsync") == ["mkdir", "fsync"] * 3


def test_a_folder_that_another_run_makes_at_the_same_time_is_no_error(tmp_path, monkeypatch):
    real = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda *arguments: (real(*arguments), real(*arguments)))
    atomic.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("place", ["file", "file/a", "file/a/b"])
def test_a_file_where_a_folder_is_to_be_is_an_error(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"file"):
        atomic.make_folders(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("code", "raises"), [(errno.EINVAL, False), (errno.EBADF, False), (errno.EIO, True)], ids=errno.errorcode.get
)
@pytest.mark.skipif(os.name == "nt", reason="Windows cannot open a folder")
def test_a_file_system_that_cannot_flush_folders_can_be_written_to(code, raises, tmp_path, fail):
    fail("fsync", code)
    if raises:
        with pytest.raises(OSError, match=os.strerror(code)):
            atomic.sync_folder(tmp_path)
    else:
        atomic.sync_folder(tmp_path)


def test_the_beginning_of_a_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PIECE", 4)
    (tmp_path / "file").write_bytes(b"0123456789")
    read = [atomic.read(tmp_path / "file", *limit) for limit in [(), (0,), (3,), (6,), (20,)]]
    assert read == [b"0123456789", b"", b"012", b"012345", b"0123456789"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_is_neither_read_nor_written(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        atomic.read(tmp_path / "pipe")
    with pytest.raises(StorageError, match="No such device"):
        atomic.append(tmp_path / "pipe", "text")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(StorageError, match="not a regular file"):
        atomic.append(tmp_path / "pipe", "text")
    os.close(reader)


@pytest.mark.parametrize("call", ["fstat", "read"])
def test_no_descriptor_stays_open_where_a_call_fails(call, tmp_path, fail, calls):
    (tmp_path / "file").write_text("")
    fail(call, errno.EIO)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            atomic.read(tmp_path / "file")
    assert calls.only("open", "close") == ["open", "close"] * 3


def test_temporaries_are_deleted_and_nothing_else(tmp_path):
    mine = [".config.toml.0123456789abcdef.tmp2", "a.tmp", ".x.0123456789ABCDEF.tmp", ".0123456789abcdef.tmp"]
    for name in (".config.toml.0123456789abcdef.tmp", ".a.b.ffffffffffffffff.tmp", *mine):
        (tmp_path / name).write_text("")
    atomic.remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(mine)


def test_what_failed_is_named_in_the_words_of_the_system():
    with (
        pytest.raises(StorageError, match=r"^cannot read gone: No such file or directory$"),
        atomic.storage_errors("gone", verb="read"),
    ):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    with pytest.raises(KeyError), atomic.storage_errors("gone"):
        raise KeyError


HOLD = "import sys; from pathlib import Path; from ptb.storage import atomic\n"
HOLD += "with atomic.locked(Path(sys.argv[1])): print('holds', flush=True); sys.stdin.read()"
needs_locks = pytest.mark.skipif(atomic.fcntl is None, reason="Windows has no such locks")


@needs_locks
@pytest.mark.parametrize("end", ["kill", "leave"])
def test_a_lock_is_held_until_its_process_ends_in_whatever_way(end, tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline().strip() == b"holds"
        for _ in range(2):  # a refusal does not free it
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
def test_a_lock_that_was_removed_after_it_was_opened_is_taken_anew(tmp_path, monkeypatch):
    real, taken = atomic.fcntl.lockf, []

    def lockf(descriptor, how):
        taken.append(os.fstat(descriptor).st_ino)
        if len(taken) < 3:  # whoever had it ends just now
            (tmp_path / "lock").rename(tmp_path / f"old{len(taken)}")
        real(descriptor, how)

    monkeypatch.setattr(atomic.fcntl, "lockf", lockf)
    with atomic.locked(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_ino == taken[-1]
    assert len(taken) == len({*taken}) == 3


@needs_locks
@pytest.mark.parametrize("call", ["unlink", "close"])
def test_a_lock_is_free_whatever_fails_at_its_end(call, tmp_path, fail, monkeypatch):
    fail(call, errno.EIO)
    with atomic.locked(tmp_path / "lock"):
        pass
    monkeypatch.undo()
    with atomic.locked(tmp_path / "lock"):
        pass


@needs_locks
@pytest.mark.parametrize(("code", "raises"), [(errno.ENOLCK, False), (errno.EIO, True)], ids=errno.errorcode.get)
def test_a_file_system_without_locks_can_be_written_to(code, raises, tmp_path, monkeypatch):
    def lockf(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.fcntl, "lockf", lockf)
    if raises:
        with pytest.raises(StorageError, match=r"cannot write .*lock"), atomic.locked(tmp_path / "lock"):
            pass
    else:
        with atomic.locked(tmp_path / "lock"):
            pass


@needs_locks
def test_what_the_block_raises_is_not_an_error_of_the_lock(tmp_path):
    with pytest.raises(OSError, match="mine"), atomic.locked(tmp_path / "lock"):
        raise OSError("mine")


def test_it_imports_no_torch():
    code = "import sys, ptb.storage.atomic, ptb.storage.run_directory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
