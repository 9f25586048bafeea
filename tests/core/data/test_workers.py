import ctypes
import faulthandler
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset, get_worker_info

from ptb import DataError
from ptb.config.sections import LoaderSettings
from ptb.data import workers as module
from ptb.data.workers import TIMEOUT, Workers
from ptb.device import cpu_threads

CPU = torch.device("cpu")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")


class Read(Dataset):
    """Samples that tell who read them; ``odd`` is called for sample 7."""

    def __init__(self, size, odd=lambda: None):
        self.size = size
        self.odd = odd

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == 7:
            self.odd()
        return torch.tensor([os.getpid()]), index


def read(workers, split="train", batch_size=2, seed=0):
    return list(workers.batches(split, torch.arange(len(workers.splits[split])), batch_size, seed))


def readers(workers, split="train"):
    return {int(pid) for inputs, _ in read(workers, split) for pid in inputs}


def alive(pid):
    """Whether a process is there, and no zombie that waits to be looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    gc.collect()
    assert multiprocessing.active_children() == []


def test_processes_live_for_all_epochs_and_serve_all_splits():
    with closing(Workers({"train": Read(4), "val": Read(4)}, CPU, 2)) as workers:
        pids = readers(workers) | readers(workers, "val") | readers(workers)
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("number", [0, 1])
def test_an_error_of_the_data_comes_as_it_is_and_leaves_no_process(number):
    def fails():
        raise DataError("sample 7 is broken")

    with pytest.raises(DataError) as caught:
        read(Workers({"train": Read(8, fails)}, CPU, number))
    assert str(caught.value) == "sample 7 is broken"
    assert multiprocessing.active_children() == []


def test_an_error_of_a_class_that_only_its_author_can_build_is_told():
    class Own(DataError):
        def __init__(self, path, line):
            super().__init__(f"{path}:{line} is broken")

    def fails():
        raise Own("table.csv", 3)

    with pytest.raises(DataError, match=r"^table.csv:3 is broken$"):
        read(Workers({"train": Read(8, fails)}, CPU, 1))


def stops():
    return next(iter(()))


def raises():
    raise KeyError("width")


def leaves():
    raise SystemExit(3)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("fails", "told"),
    [(stops, "StopIteration"), (raises, "KeyError: 'width'"), (leaves, "SystemExit: 3")],
    ids=["stops", "raises", "leaves"],
)
def test_a_sample_that_cannot_be_read_is_told_alike_in_any_process(fails, told, number):
    with pytest.raises(DataError, match=f"^reading sample 7 of the train split failed: {told}$"):
        read(Workers({"train": Read(9, fails)}, CPU, number))


@pytest.mark.parametrize("number", [0, 1])
def test_what_no_batch_can_be_made_of_is_no_death(number):
    class Strange(Read):
        def __getitem__(self, index):
            return object(), index

    with pytest.raises(DataError, match="samples 0 to 1 of the train split cannot be put into one batch"):
        read(Workers({"train": Strange(8)}, CPU, number))


@pytest.mark.parametrize("number", [0, 1])
def test_running_out_of_memory_is_no_death(number):
    def fails():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

    with pytest.raises((MemoryError, RuntimeError), match="can't allocate memory"):
        read(Workers({"train": Read(8, fails)}, CPU, number))


def test_an_epoch_that_was_left_early_does_not_show_in_the_next():
    with closing(Workers({"train": Read(8)}, CPU, 2)) as workers:
        next(workers.batches("train", torch.arange(8), 1, 0))
        assert [y.tolist() for _, y in read(workers)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_an_epoch_goes_on_after_another_one_came_between(number):
    with closing(Workers({"train": Read(20), "val": Read(5)}, CPU, number)) as workers:
        seen = []
        for place, (_, targets) in enumerate(workers.batches("train", torch.arange(20), 2, 0)):
            seen += targets.tolist()
            if place in (0, 4):
                assert [y.tolist() for _, y in read(workers, "val")] == [[0, 1], [2, 3], [4]]
        assert seen == list(range(20))


def test_an_epoch_goes_on_with_new_processes_after_closing():
    workers = Workers({"train": Read(8)}, CPU, 2)
    batches = workers.batches("train", torch.arange(8), 2, 0)
    first = next(batches)
    workers.close()
    rest = list(batches)
    assert [y.tolist() for _, y in [first, *rest]] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert not {int(pid) for pid in first[0]} & {int(pid) for x, _ in rest for pid in x}
    workers.close()


def test_batches_are_read_ahead_but_not_all_of_them(tmp_path):
    class Noted(Read):
        def __getitem__(self, index):
            (tmp_path / str(index)).touch()
            return torch.zeros(1), index

    with closing(Workers({"train": Noted(40)}, CPU, 2)) as workers:
        batches = workers.batches("train", torch.arange(40), 1, 0)
        next(batches)
        wait_for(lambda: len(list(tmp_path.iterdir())) == 1 + 2 * module.AHEAD, 10)
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) == 1 + 2 * module.AHEAD


def test_processes_are_started_only_where_reading_is_slow(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 2)
    workers = Workers({"train": Read(100)}, CPU, None)
    workers.take("train", torch.arange(3))
    assert workers.num_workers == 0
    monkeypatch.setattr(module, "WORTH_WORKERS", 0.0)
    assert workers.num_workers == 2
    assert Workers({"train": Read(100)}, CPU, 1).num_workers == 1


@pytest.mark.parametrize("number", [0, 2])
def test_a_data_set_can_ask_which_worker_reads_it(number):
    class Where(Read):
        def __getitem__(self, index):
            info = get_worker_info()
            return torch.tensor([-1, -1] if info is None else [info.id, info.num_workers]), index

    with closing(Workers({"train": Where(8)}, CPU, number)) as workers:
        told = {tuple(row) for inputs, _ in read(workers) for row in inputs.tolist()}
    assert told == ({(0, 2), (1, 2)} if number else {(-1, -1)})


def test_samples_are_alike_to_the_last_bit_whoever_reads_them_and_however_many_threads_the_run_has():
    class Sums(Read):
        def __getitem__(self, index):
            values = torch.randn(3_200_000, generator=torch.Generator().manual_seed(index))
            return values.sum(), index

    splits = {"train": Sums(2)}
    with cpu_threads(2), closing(Workers(splits, CPU, 1)) as workers:
        (theirs, _), (ours, _) = *read(workers), *read(Workers(splits, CPU, 0))
        assert theirs.tolist() == ours.tolist() == workers.take("train", torch.arange(2))[0].tolist()
        assert ours.tolist() != torch.stack([splits["train"][index][0] for index in range(2)]).tolist()


def test_batches_of_processes_are_in_shared_memory_and_stay_as_they_are():
    with closing(Workers({"train": Read(30)}, CPU, 2)) as workers:
        kept = read(workers)
        read(workers)
    assert all(inputs.is_shared() for inputs, _ in kept)
    assert [number for _, targets in kept for number in targets.tolist()] == list(range(30))


def test_an_evaluation_reads_in_processes_too():
    with closing(Workers({"train": Read(6)}, CPU, 1)) as workers, torch.inference_mode():
        assert [y.tolist() for _, y in read(workers)] == [[0, 1], [2, 3], [4, 5]]


@LINUX
def test_closing_ends_processes_and_threads_and_reading_starts_new_ones():
    workers = Workers({"train": Read(2)}, CPU, 1)
    (first,) = readers(workers)
    workers.close()
    assert not alive(first)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ptb-reading")]
    assert readers(workers) != {first}
    workers.close()
    workers.close()


@LINUX
def test_what_nobody_closes_ends_when_it_is_forgotten():
    workers = Workers({"train": Read(8, lambda: time.sleep(600))}, CPU, 2)
    (pid,) = {int(pid) for pid in next(workers.batches("train", torch.arange(8), 2, 0))[0]}
    began = time.monotonic()
    del workers
    gc.collect()
    assert not alive(pid)
    assert time.monotonic() - began < 4


def test_closing_does_not_wait_for_one_that_hangs():
    workers = Workers({"train": Read(8, lambda: time.sleep(600))}, CPU, 2)
    next(workers.batches("train", torch.arange(8), 2, 0))
    began = time.monotonic()
    workers.close()
    assert time.monotonic() - began < 4


def test_a_copy_of_this_process_leaves_the_processes_alone():
    with closing(Workers({"train": Read(4)}, CPU, 1)) as workers:
        before = readers(workers)
        if not (copy := os.fork()):
            workers.close()
            os._exit(0)
        os.waitpid(copy, 0)
        assert readers(workers) == before


def dies_by(number):
    def die():
        faulthandler.disable()  # pytest's own would show where
        os.kill(os.getpid(), number)

    return die


def ends():
    os._exit(7)


def reads_nowhere():
    faulthandler.disable()
    ctypes.string_at(0)


@LINUX
@pytest.mark.parametrize(
    ("death", "how"),
    [
        (dies_by(signal.SIGKILL), r"was killed by SIGKILL; .*; the system kills where memory runs out"),
        (
            dies_by(signal.SIGBUS),
            r"was killed by SIGBUS; .*; shared memory may be too small .* /dev/shm has [\d,]+ MiB",
        ),
        (dies_by(signal.SIGRTMIN + 1), r"was killed by signal 35"),
        (reads_nowhere, "was killed by SIGSEGV"),
        (ends, "ended with exit code 7"),
    ],
    ids=["killed", "bus error", "unnamed signal", "segmentation fault", "exit"],
)
def test_a_process_that_dies_is_told_within_seconds_with_how_and_where(capfd, death, how):
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        read(Workers({"val": Read(2), "train": Read(30, death)}, CPU, 2))
    assert time.monotonic() - began < 5
    assert multiprocessing.active_children() == []
    caught.match(r"^a process that reads the train split has died: worker 1 \(pid \d+\) " + how)
    caught.match("; the last sample that it began to read is sample 7 of the train split")
    caught.match("; loader.num_workers=0 reads in this process and may show why$")


@LINUX
def test_a_process_that_dies_between_two_batches_is_told_with_the_next():
    workers = Workers({"train": Read(30)}, CPU, 2)
    batches = workers.batches("train", torch.arange(30), 2, 0)
    inputs, _ = next(batches)
    os.kill(int(inputs[0]), signal.SIGKILL)
    with pytest.raises(DataError, match=r"worker 0 .*was killed by SIGKILL"):
        list(batches)


@LINUX
def test_a_process_that_dies_between_two_epochs_is_told():
    workers = Workers({"train": Read(4)}, CPU, 1)
    (pid,) = readers(workers)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), 5)
    with pytest.raises(DataError, match=r"was killed by SIGKILL; the last sample that it began to read is sample 3"):
        read(workers)
    assert len(readers(workers)) == 1
    workers.close()


@LINUX
def test_a_process_that_dies_before_it_reads_is_told(monkeypatch):
    monkeypatch.setattr(module, "_ending", lambda code: ("", f"ended with {code}"))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: os._exit(5))
    with pytest.raises(DataError, match=r"ended with 5; it had not begun to read a sample"):
        read(Workers({"train": Read(4)}, CPU, 1))


def holds_the_interpreter():
    ctypes.PyDLL(None).sleep(600)


@LINUX
@pytest.mark.parametrize(
    "hangs",
    [lambda: time.sleep(600), dies_by(signal.SIGSTOP), holds_the_interpreter],
    ids=["sleeps", "stopped", "holds the interpreter"],
)
def test_a_process_that_hangs_is_told_in_time_and_ended(hangs):
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        read(Workers({"train": Read(30, hangs)}, CPU, 2, timeout=1.2))
    assert 1.2 <= time.monotonic() - began < 1.2 + 5
    assert multiprocessing.active_children() == []
    caught.match(
        r"^no batch of the train split has come for 1.2 seconds: worker 1 \(pid \d+\) still reads, and was ended"
    )
    caught.match("; the last sample that it began to read is sample 7 of the train split; set loader.timeout to more")


def test_a_batch_may_take_less_than_the_timeout_however_long_the_epoch_takes():
    class Slow(Read):
        def __getitem__(self, index):
            time.sleep(0.1)
            return torch.zeros(1), index

    with closing(Workers({"train": Slow(20)}, CPU, 1, timeout=1.5)) as workers:
        assert len(read(workers)) == 10


def test_a_batch_may_come_after_others_that_nobody_wants_any_more():
    class Slow(Read):
        def __getitem__(self, index):
            time.sleep(0.6)
            return torch.zeros(1), index

    with closing(Workers({"train": Slow(8)}, CPU, 1, timeout=1.5)) as workers:
        next(workers.batches("train", torch.arange(8), 1, 0))
        ((_, targets),) = workers.batches("train", torch.tensor([5]), 1, 0)
    assert targets.tolist() == [5]


def test_who_waits_can_be_stopped_long_before_the_timeout():
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    workers = Workers({"train": Read(8, lambda: time.sleep(600))}, CPU, 1)
    workers.waiting = stop
    began = time.monotonic()
    with pytest.raises(Stop):
        read(workers)
    assert time.monotonic() - began < 10
    assert multiprocessing.active_children() == []


@LINUX
def test_a_signal_is_handled_while_a_batch_is_waited_for(monkeypatch):
    came = []
    handler = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(time.monotonic()))
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    began = time.monotonic()
    with pytest.raises(DataError, match="no batch of the train split"):
        read(Workers({"train": Read(8, lambda: time.sleep(600))}, CPU, 1, timeout=2.0))
    signal.signal(signal.SIGUSR1, handler)
    assert came
    assert came[0] - began < 2.0


@LINUX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_to_all_processes_are_left_to_the_run(name):
    with closing(Workers({"train": Read(4)}, CPU, 2)) as workers:
        before = readers(workers)
        for pid in before:
            os.kill(pid, getattr(signal, name))
        time.sleep(0.2)
        assert readers(workers) == before


def test_a_process_that_cannot_be_started_is_told(monkeypatch):
    def start(process):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.Process, "start", start)
    monkeypatch.setattr(multiprocessing.get_context().Process, "start", start)
    with pytest.raises(DataError, match=r"cannot be started: BlockingIOError: .*loader.num_workers=0 reads in this"):
        read(Workers({"train": Read(4)}, CPU, 1))


def test_shared_memory_that_is_too_small_is_told_with_its_size(monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    workers = Workers({"train": Read(4)}, CPU, 1)
    read(workers)
    monkeypatch.setattr(module, "_shared", full)
    with pytest.raises(
        DataError, match=r"the order of the train split cannot be sent .*shared memory may be too small"
    ):
        read(workers)
    assert multiprocessing.active_children() == []


def test_a_batch_that_cannot_be_received_is_no_death(monkeypatch):
    def fails(batch, device):
        raise RuntimeError("received 0 items of ancdata")

    monkeypatch.setattr(module, "pinned", fails)
    with pytest.raises(DataError, match=r"a batch that worker 0 has read cannot be received: .*ulimit -n"):
        read(Workers({"train": Read(4)}, CPU, 1))


def test_a_batch_that_cannot_be_shared_is_no_death(monkeypatch):
    class Strange(torch.Tensor):
        def __reduce_ex__(self, protocol):
            raise RuntimeError("unable to write to file </torch_1>: shm is full")

    monkeypatch.setattr(module, "read_batch", lambda *_: (torch.zeros(1).as_subclass(Strange), torch.zeros(1)))
    with pytest.raises(DataError, match=r"batch 0 of the train split cannot be shared: .*shared memory may be too"):
        read(Workers({"train": Read(4)}, CPU, 1))


def test_the_longest_wait_is_that_of_the_settings():
    assert LoaderSettings().timeout == TIMEOUT


PROGRAM = """
import ctypes, os, signal, sys, time
import torch
from torch.utils.data import Dataset
from ptb.data.workers import Workers

class Slow(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index == 7:
            {hang}(600)
        return torch.tensor([os.getpid()]), index

if __name__ == "__main__":
    {before}
    workers = Workers({{"train": Slow()}}, torch.device("cpu"), 2)
    batches = workers.batches("train", torch.arange(20), 1, 0)
    pids = {{int(next(batches)[0]) for _ in range(4)}}
    time.sleep(0.3)
    print(*pids, flush=True)
    {after}
"""


def started(tmp_path, before="", after="", hang="time.sleep"):
    """A process that has begun to read, one of its two workers in a sample that never ends, and their numbers."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(before=before or "pass", after=after or "pass", hang=hang))
    process = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True, start_new_session=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    return process, pids


def ended(process, seconds):
    """Its exit code; nothing of it is left, whether it passes or not."""
    try:
        return process.wait(seconds)
    finally:
        process.stdout.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@LINUX
@pytest.mark.parametrize("after", ["", "sys.exit(3)"], ids=["at its end", "by exit"])
def test_a_program_that_closes_nothing_ends_at_once_and_leaves_no_process(tmp_path, after):
    process, pids = started(tmp_path, after=after)
    assert ended(process, 10) == (3 if after else 0)
    assert not any(map(alive, pids))


@LINUX
@pytest.mark.parametrize("hang", ["time.sleep", "ctypes.PyDLL(None).sleep"], ids=["sleeps", "holds the interpreter"])
def test_a_program_that_is_killed_leaves_no_process(tmp_path, hang):
    process, pids = started(tmp_path, after="time.sleep(600)", hang=hang)
    assert all(map(alive, pids))
    process.kill()
    try:
        wait_for(lambda: not any(map(alive, pids)), 2)
    finally:
        assert ended(process, 5) == -signal.SIGKILL


@LINUX
def test_a_program_whose_group_gets_sigterm_goes_on_until_it_wants_to_end(tmp_path):
    before = "came = []; signal.signal(signal.SIGTERM, lambda *_: came.append(1))"
    after = """
    while not came:
        time.sleep(0.01)
    time.sleep(0.3)
    other = workers.batches("train", torch.tensor([0] * 4), 1, 0)
    workers._processes._workers[1].kill()  # it hangs
    workers.close()
    print(len(list(other)), flush=True)
    """
    process, pids = started(tmp_path, before, after.strip())
    assert all(map(alive, pids))
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "4\n"
    assert ended(process, 10) == 0
    assert not any(map(alive, pids))


@LINUX
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_are_not_forked_read_alike_and_end_alike(tmp_path, method):
    before = f"import multiprocessing; multiprocessing.set_start_method({method!r})"
    process, pids = started(tmp_path, before, "time.sleep(600)")
    process.kill()
    try:
        wait_for(lambda: not any(map(alive, pids)), 4)
    finally:
        ended(process, 5)


@LINUX
@pytest.mark.parametrize("stopped", [os.killpg, os.kill], ids=["with its processes", "alone"])
def test_a_program_may_be_stopped_for_longer_than_the_timeout(tmp_path, stopped):
    path = tmp_path / "program.py"
    path.write_text("""
import time, torch
from torch.utils.data import Dataset
from ptb.data.workers import Workers

class Slow(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        for _ in range(5):  # one long sleep would end while it is stopped
            time.sleep(0.1)
        return torch.zeros(1), index

workers = Workers({"train": Slow()}, torch.device("cpu"), 1, timeout=1.0)
batches = workers.batches("train", torch.arange(6), 1, 0)
next(batches)
print("begun", flush=True)
print(len(list(batches)), flush=True)
""")
    process = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.2)
    stopped(process.pid, signal.SIGSTOP)
    time.sleep(2.5)
    stopped(process.pid, signal.SIGCONT)
    told = process.stdout.readline()
    assert (told, ended(process, 10)) == ("5\n", 0)
