"""What the input costs where data is large: pictures in a folder, files ten times as large, memory.

python tests/benchmarks/data.py pictures      2,000 JPEGs of 256x256 to 32x32, beside a DataLoader with its best workers
python tests/benchmarks/data.py large         an epoch of ten times the samples, mapped from a file
python tests/benchmarks/data.py memory        the peak of a run on Fashion-MNIST, beside a loop by hand
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ptb import RunConfig, load_registry
from ptb.config.resolve import resolve
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb.runs.compose import compose
from ptb.runs.start import start_run
from ptb_bench.timing import Comparison, in_turn

CPU = torch.device("cpu")
PICTURES, SIDE, BATCH = 2000, 256, 64
BY_HAND = """
import gzip, re, sys
import numpy as np, torch
import torch.nn.functional as F
from torch import nn
def read(name, offset):
    return np.frombuffer(gzip.open(sys.argv[1] + "/" + name).read(), np.uint8, offset=offset).copy()
x = torch.from_numpy(read("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28))
y = torch.from_numpy(read("train-labels-idx1-ubyte.gz", 8).astype(np.int64))
x_test = torch.from_numpy(read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28))
y_test = torch.from_numpy(read("t10k-labels-idx1-ubyte.gz", 8).astype(np.int64))
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.Adam(model.parameters(), fused=True)
def prepare(inputs):
    return inputs.float().div(255).sub_(0.286).div_(0.353)
for chosen in torch.randperm(len(x)).split(64):
    optimizer.zero_grad()
    F.cross_entropy(model(prepare(x[chosen])), y[chosen]).backward()
    optimizer.step()
with torch.no_grad():
    correct = sum(int((model(prepare(a)).argmax(1) == b).sum()) for a, b in zip(x_test.split(64), y_test.split(64)))
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
BY_PTB = """
import re, sys
from ptb.cli import main
try:
    main(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


class Plain(Dataset):
    """Pictures as one reads them by hand."""

    def __init__(self, files):
        self.files = files
        cv2.setNumThreads(0)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        picture = cv2.cvtColor(cv2.imread(str(self.files[index])), cv2.COLOR_BGR2RGB)
        picture = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(picture.transpose(2, 0, 1).copy()), index % 2


def pictures(rounds):
    random = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        for label in "ab":
            Path(folder, "pictures", label).mkdir(parents=True)
        files = []
        for number in range(PICTURES):
            smooth = cv2.resize(random.randint(0, 256, (16, 16, 3)).astype(np.uint8), (SIDE, SIDE))
            files.append(Path(folder, "pictures", "ab"[number % 2], f"{number}.jpg"))
            cv2.imwrite(str(files[-1]), smooth)
        registry = load_registry()

        def ours(num_workers=None, **settings):
            def timed():
                began = perf_counter()
                bundle = registry.build(
                    "dataset",
                    "image-folder",
                    root=f"{folder}/pictures",
                    val_fraction=0.0,
                    test_fraction=0.0,
                    **settings,
                )
                read(bundle.splits, num_workers)
                return perf_counter() - began

            return timed

        def same(num_workers):
            def timed():
                began = perf_counter()
                read({"train": Plain(files)}, num_workers)
                return perf_counter() - began

            return timed

        def read(splits, num_workers):
            source = make_sources(splits, CPU, num_workers=num_workers)["train"]
            batches = BatchLoader(source, batch_size=BATCH, shuffle=True)
            assert sum(len(targets) for _, targets, _ in batches.epoch(1)) == PICTURES
            source.close()

        def theirs(workers):
            def timed():
                began = perf_counter()
                for _ in DataLoader(Plain(files), batch_size=BATCH, shuffle=True, num_workers=workers):
                    pass
                return perf_counter() - began

            return timed

        candidates = {
            "ptb, opening the folder and the first epoch": ours(),
            "ptb, the same with a warm cache": ours(cache=True),
            **{f"ptb, the same, {n} workers": ours(n) for n in (0, 1, 2)},
            **{f"Dataset with cv2 and ptb, {n} workers": same(n) for n in (0, 1, 2)},
            **{f"Dataset with cv2 and DataLoader, {n} workers": theirs(n) for n in (0, 1, 2)},
        }
        show(Comparison("pictures", in_turn(candidates, rounds)))


def large(rounds):
    with tempfile.TemporaryDirectory() as folder:
        seconds = {60_000: [], 600_000: []}
        for samples in seconds:
            write_idx(Path(folder, str(samples)), samples)
        registry = load_registry()
        for _ in range(rounds):
            for samples, taken in seconds.items():
                config = RunConfig(
                    model={"name": "mlp"},
                    dataset={"name": "mnist", "root": f"{folder}/{samples}", "val_size": 0},
                    loader={"batch_size": BATCH},
                    trainer={"epochs": 1},
                    threads=1,
                    device="cpu",
                )
                with tempfile.TemporaryDirectory() as output:
                    taken.append(start_run(compose(resolve(config, registry)), Path(output)).train_seconds)
        few, many = (median(taken) for taken in seconds.values())
        print(f"60,000 samples {few:.2f} s, 600,000 samples {many:.2f} s: {many / few / 10:.3f} of ten times")
        for samples in seconds:
            print(f"{samples:,} samples:", memory_of(folder, samples))


def memory_of(folder, samples):
    """The private memory of a run, and with the pages of the file, which the system may drop."""
    code = BY_PTB.replace("VmHWM", "RssAnon").replace(
        "print(", "print(re.search(r'RssFile:\\s*(\\d+)', open('/proc/self/status').read())[1], end=' '); print("
    )
    arguments = ["run", "-q", "--model", "mlp", "--dataset", "mnist", f"dataset.root={folder}/{samples}"]
    arguments += ["--epochs", "1", "--batch-size", "64", "--output", f"{folder}/out-{samples}", "dataset.val_size=0"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    of_files, private = (int(number) // 1024 for number in done.stdout.split()[-2:])
    return f"{private} MB private at the end, {of_files} MB of files mapped"


def write_idx(folder, samples):
    folder.mkdir()
    random = np.random.RandomState(0)
    for prefix, number in (("train", samples), ("t10k", 1000)):
        with (folder / f"{prefix}-images-idx3-ubyte").open("wb") as stream:
            stream.write(bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in (number, 28, 28)))
            for _ in range(number // 1000):
                stream.write(random.bytes(1000 * 28 * 28))
        labels = (np.arange(number) % 10).astype(np.uint8)
        header = bytes((0, 0, 8, 1)) + number.to_bytes(4, "big")
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def memory(rounds):
    source = "/usr/share/datasets/fashion-mnist"
    peaks = {"ptb": [], "by hand": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["run", "-q", "--model", "mlp", "--dataset", "fashion-mnist", "--epochs", "1"]
            arguments += ["--batch-size", "64", "--output", f"{folder}/run", "--device", "cpu"]
            peaks["ptb"].append(peak(BY_PTB, *arguments))
            peaks["by hand"].append(peak(BY_HAND, source))
    ours, theirs = (median(values) for values in peaks.values())
    print(f"ptb {ours:.0f} MB, by hand {theirs:.0f} MB: {ours / theirs:.2f}")


def peak(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return int(re.findall(r"^\d+$", done.stdout, re.M)[-1]) / 1024


def show(compared):
    for row in compared.rows():
        print("  ".join(cell.ljust(48 if not number else 9) for number, cell in enumerate(row)).rstrip())
    print(json.dumps(compared.as_json()["timings"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pictures", "large", "memory"])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    {"pictures": pictures, "large": large, "memory": memory}[chosen.what](chosen.rounds)
