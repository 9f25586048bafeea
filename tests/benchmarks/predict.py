"""Measures predicting the rows of a table beside a loop by hand, in turn: ``python predict.py [ROWS] [ROUNDS]``."""

import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, TensorDataset

import ptb
from ptb.internals import cpu_threads
from ptb_predict.rows import CsvRows, Shape

COLUMNS, TRAINING, BATCH = 13, 20_000, 32


def write_table(path: Path, rows: int, labels: bool) -> None:
    """A table of normal numbers, and with labels which of three thirds the sum of two columns is in."""
    random = np.random.RandomState(rows)
    frame = pd.DataFrame({f"x{n}": random.normal(n * 10, 3 + n, rows).round(4) for n in range(COLUMNS)})
    if labels:
        frame["y"] = np.array(["low", "mid", "high"])[np.digitize(frame["x0"] + frame["x1"], [8, 12])]
    frame.to_csv(path, index=False)


def by_hand(model: ptb.TrainedModel, path: Path, output: Path) -> None:
    """What people write: all rows into memory, standardised, in a ``DataLoader``."""
    features = model.preprocessor.state_dict()["features"]
    mean, std = (np.array([feature[name][0] for feature in features]) for name in ("mean", "std"))
    values = pd.read_csv(path)[[feature["name"] for feature in features]].to_numpy()
    inputs = torch.from_numpy(((values - mean) / std).astype(np.float32))
    line = 2
    with output.open("w", newline="") as stream, torch.inference_mode():
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["input", "prediction", "probability", "error"])
        for (batch,) in DataLoader(TensorDataset(inputs), batch_size=BATCH):
            best, places = model.model(batch).softmax(1).max(1)
            for place, value in zip(places.tolist(), best.numpy(), strict=True):
                writer.writerow([f"{path.name}:{line}", model.class_names[place], str(value), ""])
                line += 1


def by_ptb(model: ptb.TrainedModel, path: Path, output: Path) -> None:
    """The loop of ``ptb predict``."""
    with output.open("w", newline="") as stream:
        writer = CsvRows(stream, Shape(model.spec))
        for batch in model.batches(path, batch_size=BATCH):
            writer.write(batch)
        writer.close()


def main(rows: int, rounds: int) -> None:
    """Train on one table, and print medians of wall-clock and CPU time for another."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "train.csv", TRAINING, labels=True)
        write_table(folder / "new.csv", rows, labels=False)
        dataset = {"name": "csv", "path": str(folder / "train.csv"), "target": "y"}
        values = {"model": {"name": "mlp"}, "dataset": dataset, "trainer": {"epochs": 1}, "device": "cpu"}
        run = ptb.train(ptb.RunConfig(**values), output=folder / "run").output
        model = ptb.load(run, device="cpu")
        loops: dict[str, Callable[[ptb.TrainedModel, Path, Path], None]] = {"ptb": by_ptb, "by hand": by_hand}
        times: dict[str, list[tuple[float, float]]] = {loop: [] for loop in loops}
        with cpu_threads(model.threads):
            for _ in range(rounds):
                for loop, predict in loops.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    predict(model, folder / "new.csv", folder / f"{loop}.csv")
                    times[loop].append((time.perf_counter() - wall, time.process_time() - cpu))
        medians = {
            loop: [statistics.median(each) for each in zip(*taken, strict=True)] for loop, taken in times.items()
        }
        for loop, (wall, cpu) in medians.items():
            print(f"{loop}: {wall:.2f} s, {cpu:.2f} s of CPU time")
        ratios = [mine / its for mine, its in zip(medians["ptb"], medians["by hand"], strict=True)]
        print(f"ptb / by hand: {ratios[0]:.2f}, of CPU time {ratios[1]:.2f}")
        mine, its = (pd.read_csv(folder / f"{loop}.csv") for loop in loops)
        print(f"the same predictions: {bool((mine['prediction'] == its['prediction']).all())}")


if __name__ == "__main__":
    main(*map(int, (sys.argv[1:] + ["100000", "5"][len(sys.argv) - 1 :])[:2]))
