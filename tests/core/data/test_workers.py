import faulthandler
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, get_worker_info

from ptb import DataError
from ptb.config.sections import LoaderSettings
from ptb.data import workers as module
from ptb.data.sources import WorkerSource
from ptb.data.workers import TIMEOUT, Workers
from ptb.device import cpu_threads

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")


class Read(Dataset):
    """Samples that say who read them; ``odd`` is called for sample 7."""

    def __init__(self, size, odd=lambda: None):
        self.size = size
        self.odd = odd

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == 7:
            self.odd()
        return torch.tensor([os.getpid()]), index


class Slow(Read):
    """Takes a while for each sample, however often it is stopped."""

    def __getitem__(self, index):
        for _ in range(self.odd):
            time.sleep(0.1)
        return super().__getitem__(index - index)


def workers_of(split, number, **options):
    return Workers({"train": split}, number, **options)


def batches_of(workers, split, parts, waiting=lambda: None):
    source = WorkerSource(workers, split, torch.device("cpu"))
    source.waiting = waiting
    return source.batches(parts, 0)


def read(workers, split="train", batch_size=2, **options):
    return list(batches_of(workers, split, torch.arange(len(workers.splits[split])).split(batch_size), **options))


def seen(workers, split="train", batch_size=2):
    return [targets.tolist() for _, targets, _ in read(workers, split, batch_size)]


def readers(workers, split="train"):
    return {int(pid) for inputs, _, _ in read(workers, split) for pid in inputs}


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
def _quick_and_clean(monkeypatch):
    monkeypatch.setattr(module, "SLICE", 0.1)
    yield
    if multiprocessing.active_children():
        gc.collect()
    assert multiprocessing.active_children() == []


def test_the_longest_wait_is_that_of_the_settings():
    assert LoaderSettings().timeout == TIMEOUT


# How batches come.


def test_workers_live_for_all_epochs_and_serve_all_splits():
    with closing(Workers({"train": Read(4), "val": Read(4)}, 2)) as workers:
        pids = readers(workers) | readers(workers, "val") | readers(workers)
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_workers_that_are_not_persistent_end_with_each_epoch():
    workers = workers_of(Read(4), 1, persistent_workers=False)
    first = readers(workers)
    assert multiprocessing.active_children() == []
    assert not readers(workers) & first


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_an_epoch_goes_on_after_others_came_between(number):
    with closing(Workers({"train": Read(20), "val": Read(5)}, number)) as workers:
        targets = []
        for place, (_, more, _) in enumerate(batches_of(workers, "train", torch.arange(20).split(2))):
            targets += more.tolist()
            if place in (0, 4):
                next(batches_of(workers, "val", torch.arange(5).split(1)))  # and is left early
                assert seen(workers, "val") == [[0, 1], [2, 3], [4]]
        assert targets == list(range(20))


def test_an_epoch_goes_on_with_new_workers_after_closing():
    workers = workers_of(Read(8), 2)
    batches = batches_of(workers, "train", torch.arange(8).split(2))
    first = next(batches)
    workers.close()
    rest = list(batches)
    assert [y.tolist() for _, y, _ in [first, *rest]] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert not {int(pid) for pid in first[0]} & {int(pid) for x, _, _ in rest for pid in x}
    workers.close()


@pytest.mark.parametrize(("factor", "ahead"), [(None, 2), (1, 1)])
def test_batches_are_read_ahead_but_not_all_of_them(tmp_path, factor, ahead):
    class Noted(Read):
        def __getitem__(self, index):
            (tmp_path / str(index)).touch()
            return torch.zeros(1), index

    with closing(workers_of(Noted(40), 2, prefetch_factor=factor)) as workers:
        next(batches_of(workers, "train", torch.arange(40).split(1)))
        wait_for(lambda: len(list(tmp_path.iterdir())) == 1 + 2 * ahead, 10)
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) == 1 + 2 * ahead


def test_workers_are_started_only_where_reading_is_slow(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 2)
    workers = workers_of(Read(100), None)
    workers.take("train", torch.arange(3))
    assert workers.num_workers == 0
    monkeypatch.setattr(module, "WORTH_WORKERS", 0.0)
    assert workers.num_workers == 2
    assert workers_of(Read(100), 1).num_workers == 1


def test_workers_that_live_read_on_where_none_would_be_started_any_more(monkeypatch):
    monkeypatch.setattr(module, "WORTH_WORKERS", 0.0)
    with closing(workers_of(Read(4), None)) as workers:
        workers.take("train", torch.arange(1))
        first = readers(workers)
        monkeypatch.setattr(module, "WORTH_WORKERS", float("inf"))
        assert (workers.num_workers, readers(workers)) == (0, first)
    assert os.getpid() not in first


@pytest.mark.parametrize("number", [0, 2])
def test_a_data_set_can_ask_which_worker_reads_it(number):
    class Where(Read):
        def __getitem__(self, index):
            info = get_worker_info()
            return torch.tensor([-1, -1] if info is None else [info.id, info.num_workers]), index

    with closing(workers_of(Where(8), number)) as workers:
        told = {tuple(row) for inputs, _, _ in read(workers) for row in inputs.tolist()}
    assert told == ({(0, 2), (1, 2)} if number else {(-1, -1)})


def test_samples_are_alike_to_the_last_bit_whoever_reads_them_and_however_many_threads_the_run_has():
    class Sums(Read):
        def __getitem__(self, index):
            values = torch.randn(3_200_000, generator=torch.Generator().manual_seed(index))
            return values.sum(), index

    data = Sums(2)
    with cpu_threads(2), closing(workers_of(data, 1)) as workers:
        (theirs, _, _), (ours, _, _) = *read(workers), *read(workers_of(data, 0))
        assert theirs.tolist() == ours.tolist() == workers.take("train", torch.arange(2))[0].tolist()
        assert ours.tolist() != torch.stack([data[index][0] for index in range(2)]).tolist()


def test_batches_of_workers_are_in_shared_memory_and_stay_as_they_are():
    with closing(workers_of(Read(30), 2)) as workers:
        kept = read(workers)
        read(workers)
    assert all(tensor.is_shared() for batch in kept for tensor in batch.tensors())
    assert [number for _, targets, _ in kept for number in targets.tolist()] == list(range(30))


def test_an_evaluation_reads_in_workers_too():
    class Modes(Read):
        def __getitem__(self, index):
            return torch.tensor([torch.is_inference_mode_enabled()]), index

    with closing(workers_of(Modes(6), 1)) as workers:
        with torch.inference_mode():
            batches = read(workers)
        assert not any(inputs.any() for inputs, _, _ in batches)


# What a data set does wrong.


@pytest.mark.parametrize("number", [0, 1])
def test_an_error_of_the_data_comes_as_it_is_and_leaves_no_process(number):
    class Own(DataError):
        def __init__(self, path, line):
            super().__init__(f"{path}:{line} is broken")

    def fails():
        raise Own("table.csv", 3)

    with pytest.raises(DataError, match=r"^table.csv:3 is broken$"):
        read(workers_of(Read(8, fails), number))
    assert multiprocessing.active_children() == []


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
def test_a_sample_that_cannot_be_read_is_named_alike_in_any_process(fails, told, number):
    with pytest.raises(DataError, match=f"^reading sample 7 of the train split failed: {told}$"):
        read(workers_of(Read(9, fails), number))


@pytest.mark.parametrize("number", [0, 1])
def test_what_no_batch_can_be_made_of_is_no_death(number):
    class Strange(Read):
        def __getitem__(self, index):
            return object(), index

    with pytest.raises(DataError, match="samples 0 to 1 of the train split cannot be put into one batch"):
        read(workers_of(Strange(8), number))


@pytest.mark.parametrize("number", [0, 1])
def test_running_out_of_memory_is_no_death(number):
    def fails():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

    with pytest.raises((MemoryError, RuntimeError), match="can't allocate memory"):
        read(workers_of(Read(8, fails), number))


def test_shared_memory_that_is_too_small_is_named_with_its_size(monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(DataError, match=r"samples 0 to 1 of the train split .*shared memory may be too small"):
        read(workers_of(Read(4), 1))


# How workers end.


@LINUX
def test_closing_ends_workers_and_reading_starts_new_ones():
    workers = workers_of(Read(2), 1)
    (first,) = readers(workers)
    workers.close()
    assert not alive(first)
    assert readers(workers) != {first}
    workers.close()
    workers.close()


@LINUX
def test_the_end_does_not_wait_for_a_lock_that_a_killed_worker_held():
    workers = workers_of(Read(4), 1)
    next(batches_of(workers, "train", torch.arange(4).split(2)))
    workers._replies._workers_done_event._cond.acquire()
    end = threading.Thread(target=workers.close, daemon=True)
    end.start()
    end.join(10)
    assert not end.is_alive()


@LINUX
@pytest.mark.parametrize("forgotten", [False, True], ids=["closed", "forgotten"])
def test_the_end_does_not_wait_for_a_worker_that_hangs(forgotten):
    workers = workers_of(Read(8, lambda: time.sleep(600)), 2)
    (pid,) = {int(pid) for pid in next(batches_of(workers, "train", torch.arange(8).split(2)))[0]}
    began = time.monotonic()
    if not forgotten:
        workers.close()
    del workers
    gc.collect()
    assert not alive(pid)
    assert time.monotonic() - began < 4


def dies_by(number):
    def die():
        faulthandler.disable()  # pytest's own would show where
        os.kill(os.getpid(), number)

    return die


def ends():
    os._exit(7)


@LINUX
@pytest.mark.parametrize(
    ("death", "how"),
    [
        (dies_by(signal.SIGKILL), r"was killed by SIGKILL; .*; the system kills where memory runs out"),
        (dies_by(signal.SIGBUS), r"was killed by SIGBUS; .*; shared memory may be too small"),
        (ends, "ended with exit code 7"),
    ],
    ids=["killed", "bus error", "exit"],
)
def test_a_worker_that_dies_is_named_within_seconds_with_how_and_where(capfd, death, how):
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        read(Workers({"val": Read(2), "train": Read(30, death)}, 2))
    assert time.monotonic() - began < 5
    assert multiprocessing.active_children() == []
    caught.match(r"^a process that reads the train split has died: worker 1 \(pid \d+\) " + how)
    caught.match("; the last sample that it began to read is sample 7 of the train split")
    caught.match("; loader.num_workers=0 reads in this process and may show why$")


@LINUX
def test_a_worker_that_dies_disturbs_nothing_until_its_batch_is_waited_for():
    for _ in DataLoader(TensorDataset(torch.zeros(2)), num_workers=1):
        pass  # from now on torch looks at its workers wherever this process is
    workers = workers_of(Read(30), 2)
    batches = batches_of(workers, "train", torch.arange(30).split(2))
    inputs = next(batches).inputs
    os.kill(int(inputs[0]), signal.SIGKILL)
    wait_for(lambda: not alive(int(inputs[0])), 5)
    Path(os.devnull).write_text("as in a save")
    with pytest.raises(DataError, match=r"worker 0 .*was killed by SIGKILL"):
        list(batches)


@LINUX
def test_a_worker_that_dies_between_two_epochs_is_named():
    workers = workers_of(Read(4), 1)
    (pid,) = readers(workers)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), 5)
    with pytest.raises(DataError, match=r"was killed by SIGKILL; the last sample that it began to read is sample 3"):
        read(workers)
    assert len(readers(workers)) == 1
    workers.close()


@LINUX
def test_a_worker_that_dies_before_it_reads_is_named(monkeypatch):
    monkeypatch.setattr(module, "_begin_worker", lambda worker: os._exit(5))
    with pytest.raises(DataError, match=r"ended with exit code 5; it had not begun to read a sample"):
        read(workers_of(Read(4), 1))


@LINUX
def test_a_worker_that_hangs_is_named_in_time_and_ended():
    hangs = Read(30, lambda: time.sleep(600))
    batches = batches_of(workers_of(hangs, 2, timeout=0.8), "train", torch.arange(30).split(2))
    next(batches)
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        list(batches)
    assert 0.8 <= time.monotonic() - began < 0.8 + 5
    assert multiprocessing.active_children() == []
    caught.match(
        r"^no batch of the train split has come for 0.8 seconds: worker 1 \(pid \d+\) still reads, and was ended"
    )
    caught.match("; the last sample that it began to read is sample 7 of the train split; set loader.timeout to more")


@pytest.mark.parametrize("timeout", [0.6, 0])
def test_a_batch_may_take_less_than_the_timeout_however_long_the_epoch_takes(timeout):
    with closing(workers_of(Slow(10, 1), 1, timeout=timeout)) as workers:
        assert len(read(workers)) == 5


@LINUX
def test_a_batch_that_cannot_be_received_is_no_death(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("received 0 items of ancdata")

    workers = workers_of(Read(40), 1)
    batches = batches_of(workers, "train", torch.arange(40).split(2))
    next(batches)
    monkeypatch.setattr(pickle, "loads", fails)
    monkeypatch.setattr(multiprocessing.queues._ForkingPickler, "loads", fails)
    with pytest.raises(DataError, match=r"a batch of the train split cannot be received: .*ancdata"):
        list(batches)


# What others do meanwhile.


def test_who_waits_can_be_stopped_long_before_the_timeout():
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    began = time.monotonic()
    with pytest.raises(Stop):
        read(workers_of(Read(8, lambda: time.sleep(600)), 1), waiting=stop)
    assert time.monotonic() - began < 5
    assert multiprocessing.active_children() == []


@LINUX
def test_a_signal_is_handled_while_a_batch_is_waited_for():
    came = []
    handler = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(time.monotonic()))
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    began = time.monotonic()
    with pytest.raises(DataError, match="no batch of the train split"):
        read(workers_of(Read(8, lambda: time.sleep(600)), 1, timeout=1.0))
    signal.signal(signal.SIGUSR1, handler)
    assert came
    assert came[0] - began < 1.0


def cannot_fork(after):
    """``os.fork``, which fails after so many times."""
    fork, left = os.fork, [after]

    def fails():
        if not left.pop():
            raise OSError(11, "Resource temporarily unavailable")
        left.append(0)
        return fork()

    return fails


@LINUX
@pytest.mark.parametrize(
    "after", [0, pytest.param(1, marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))]
)
def test_where_no_process_can_be_started_this_one_reads_and_says_so(monkeypatch, after):
    monkeypatch.setattr(os, "fork", cannot_fork(after))
    workers = workers_of(Read(4), 2)
    with pytest.warns(UserWarning, match=r"this process reads the samples: BlockingIOError: .*temporarily") as warned:
        assert seen(workers) == [[0, 1], [2, 3]]
    assert readers(workers) == {os.getpid()}
    assert len(warned) == 1


def test_a_data_set_that_cannot_be_sent_to_a_worker_is_read_in_this_process():
    workers = workers_of(Read(4, odd=lambda: None), 1, multiprocessing_context="spawn")
    with pytest.warns(UserWarning, match=r"this process reads the samples: .*[Pp]ickl") as warned:
        assert readers(workers) == {os.getpid()}
    assert len(warned) == 1


def in_a_pool(split):
    with pytest.warns(UserWarning, match="this process reads the samples: AssertionError: daemonic processes are not"):
        return seen(workers_of(split, 2))


def test_in_a_pool_of_processes_that_may_have_none_each_reads_itself():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(in_a_pool, (TensorDataset(torch.zeros(4), torch.arange(4)),)) == [[0, 1], [2, 3]]
        pool.close()
        pool.join()


# Programs that read. Those that are forked need not import torch anew.


@contextmanager
def forked(program, *arguments):
    """A process that leads a group of its own, and what it sends; nothing of it is left."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def lead():
        os.setsid()
        torch.set_num_threads(1)
        program(theirs, *arguments)

    process = context.Process(target=lead)
    process.start()
    theirs.close()
    try:
        assert ours.poll(30)
        yield process, ours
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join(5)
        ours.close()


def begin(connection, workers, size):
    """Reads until one worker is in a sample that never ends, and sends the numbers of the workers and what was read."""
    batches = batches_of(workers, "train", torch.arange(size).split(1))
    read = [next(batches)[1].item() for _ in range(4)]
    time.sleep(0.3)
    connection.send(([process.pid for process in workers._processes], read))


def stays(connection, split, method):
    workers = workers_of(split, 2, multiprocessing_context=method)
    begin(connection, workers, 20)
    time.sleep(600)


@LINUX
def test_a_program_that_is_killed_leaves_no_process():
    with forked(stays, Read(20, lambda: time.sleep(600)), "fork") as (process, told):
        pids, _ = told.recv()
        assert all(map(alive, pids))
        process.kill()
        wait_for(lambda: not any(map(alive, pids)), 2)


@LINUX
def test_workers_that_are_not_forked_read_alike_and_end_alike():
    with forked(stays, TensorDataset(torch.zeros(20), torch.arange(20)), "forkserver") as (process, told):
        pids, numbers = told.recv()
        assert numbers == [0, 1, 2, 3]
        assert all(map(alive, pids))
        process.kill()
        wait_for(lambda: not any(map(alive, pids)), 4)


def goes_on(connection):
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    workers = workers_of(Read(20), 2)
    begin(connection, workers, 20)
    while not came:
        time.sleep(0.01)
    time.sleep(0.2)
    connection.send(seen(workers, batch_size=10))  # and closes nothing


@LINUX
def test_a_program_whose_group_gets_signals_goes_on_until_it_wants_to_end():
    with forked(goes_on) as (process, told):
        pids, _ = told.recv()
        for number in (signal.SIGHUP, signal.SIGINT):
            for pid in pids:
                os.kill(pid, number)
        os.killpg(process.pid, signal.SIGTERM)
        assert told.recv() == [list(range(10)), list(range(10, 20))]
        process.join(10)
        assert process.exitcode == 0
        assert not any(map(alive, pids))


def takes_its_time(connection):
    workers = workers_of(Slow(4, 4), 1, timeout=0.8)
    batches = batches_of(workers, "train", torch.arange(4).split(1))
    next(batches)
    connection.send("began")
    connection.send(len(list(batches)))


@LINUX
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["with its workers", "alone"])
def test_a_program_may_be_stopped_for_longer_than_the_timeout(send):
    with forked(takes_its_time) as (process, told):
        assert told.recv() == "began"
        time.sleep(0.1)
        send(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        send(process.pid, signal.SIGCONT)
        assert told.poll(10)
        assert told.recv() == 3


PROGRAM = """
import sys, time, torch
from torch.utils.data import Dataset, TensorDataset
from ptb.data.sources import WorkerSource
from ptb.data.workers import Workers

class Hangs(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index == 7:
            time.sleep(600)
        return torch.zeros(1), index

def batches_of(workers, parts):
    return WorkerSource(workers, "train", torch.device("cpu")).batches(parts, 0)

def read(workers):
    list(batches_of(workers, torch.arange(20).split(5)))
    return [process.pid for process in workers._processes]

if __name__ == "__main__":
    from joblib import Parallel, delayed

    def job(number):
        workers = Workers({"train": TensorDataset(torch.zeros(20), torch.arange(20))}, number)
        return len(read(workers))

    print(Parallel(n_jobs=2, backend="loky")(delayed(job)(number) for number in (1, 2)), flush=True)
    workers = Workers({"train": Hangs()}, 2)
    next(batches_of(workers, torch.arange(20).split(1)))
    time.sleep(0.3)
    print(*[process.pid for process in workers._processes], flush=True)
    sys.exit(3)
"""


@LINUX
def test_workers_start_in_processes_of_joblib_and_a_program_that_closes_nothing_ends_at_once(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    began = time.monotonic()
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    assert time.monotonic() - began < 45
    assert (done.returncode, done.stderr) == (3, "")
    in_jobs, pids = done.stdout.splitlines()
    assert in_jobs == "[1, 2]"
    assert not any(alive(int(pid)) for pid in pids.split())
