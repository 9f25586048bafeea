"""Sets ptb beside other frameworks and beside loops written by hand, in turn, and writes docs/benchmarks.md.

python -m pip install -c constraints.txt -e '.[bench]'
python tests/benchmarks/compare.py                          print the tables
python tests/benchmarks/compare.py --write                  and put them into docs/benchmarks.md
"""

import argparse
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from frameworks import FRAMEWORKS, Work, by_hand

from ptb import RunConfig, load_registry
from ptb.config.resolve import resolve
from ptb.device import cpu_threads
from ptb.runs.compose import compose
from ptb_bench import loops
from ptb_bench.measure import trained
from ptb_bench.timing import Comparison, in_turn

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
LR = 1e-3
BATCH = 64
TRAININGS = {"MLP, Fashion-MNIST": "mlp", "LeNet, Fashion-MNIST": "lenet"}


def training(model: str, rounds: int, threads: int, names: list[str]) -> Comparison:
    """One epoch with all of them in turn."""
    registry = load_registry()
    config = RunConfig(
        model={"name": model},
        dataset={"name": "fashion-mnist", "val_size": 0},
        loader={"batch_size": BATCH},
        optimizer={"name": "adam", "lr": LR},
        metrics={"accuracy": {}},
        trainer={"epochs": 1},
        threads=threads,
        device="cpu",
    )

    def ours(loop: Callable[..., float]) -> Callable[[], float]:
        return lambda: loop(compose(resolve(config, registry)))

    def theirs(train: Callable[[Work], float]) -> Callable[[], float]:
        def timed() -> float:
            composed = compose(resolve(config, registry))
            samples = loops.Items(composed.bundle.splits["train"], composed.trainer.train_loader.transform)
            return train(Work(composed.trainer.model, samples, BATCH, LR))

        return timed

    candidates = {
        "ptb": ours(trained),
        "floor: the same steps on batches cut before": ours(loops.pre_cut),
        "tensors and indices, by hand": ours(loops.gathered),
        "Dataset and DataLoader, by hand": theirs(by_hand),
        **{f"{name} {version(name)}": theirs(FRAMEWORKS[name]) for name in names},
    }
    with cpu_threads(threads):
        return Comparison(model, in_turn(candidates, rounds))


def table(compared: Comparison, title: str) -> str:
    """As Markdown."""
    lines = [f"### {title}", "", "| | median | fastest to slowest | ptb / it |", "| --- | --- | --- | --- |"]
    for timings in compared.timings:
        span = f"{min(timings.seconds):.2f} to {max(timings.seconds):.2f} s"
        ratio = "" if timings is compared.timings[0] else f"{compared.ratio(timings):.2f}"
        lines.append(f"| {timings.name} | {timings.median:.2f} s | {span} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    text = [
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, "
        f"{arguments.threads} threads for each; {arguments.rounds} rounds, all of them in turn."
    ]
    for title, model in TRAININGS.items():
        text.append(table(training(model, arguments.rounds, arguments.threads, arguments.only), title))
        print(text[-1], flush=True)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text("\n\n".join([before + BEGIN, *text, END + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
