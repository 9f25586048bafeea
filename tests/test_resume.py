import json
import random
import signal

import pytest

from ptb import (
    Component,
    ConfigError,
    InterruptedRunError,
    PluginError,
    RunConfig,
    StorageError,
    hookimpl,
    load_registry,
)
from ptb.config.resolve import resolve
from ptb.runs import recorder
from ptb.runs.compose import compose
from ptb.runs.evaluate import evaluate_run
from ptb.runs.overrides import evaluation_config, resume_config
from ptb.runs.start import resume_run, start_run
from ptb.storage.checkpoint import differences, find_checkpoints, load_checkpoint
from ptb.storage.run_directory import RunDirectory

# Components that keep state wherever a plugin author may keep it.
PROVIDES = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_datasets():
        return [Component("drawn", "odd_parts:drawn")]

    @hookimpl
    def ptb_provide_models():
        return [Component("odd", "odd_parts:Odd"), Component("lstm", "odd_parts:Recurrent"),
                Component("tied", "odd_parts:Tied"), Component("hiding", "odd_parts:Hiding")]

    @hookimpl
    def ptb_provide_losses():
        return [Component(name.lower(), f"odd_parts:{name}", accepts=("class",)) for name in ("Leaning", "Centred")]

    @hookimpl
    def ptb_provide_optimizers():
        return [Component("counting", "odd_parts:Counting"), Component("looking", "odd_parts:Looking")]

    @hookimpl
    def ptb_provide_schedulers():
        return [Component("bouncing", "odd_parts:Bouncing")]

    @hookimpl
    def ptb_provide_metrics():
        return [Component("wandering", "odd_parts:Wandering"), Component("f1", "odd_parts:f1"),
                Component("made", "odd_parts:Made"), Component("plain", "odd_parts:Plain")]
"""
PARTS = """
    import copy
    import random

    import numpy as np
    import torch
    from torch import nn
    from torch.utils.data import Dataset

    from ptb import DataBundle, DataSpec


    class Drawn(Dataset):
        "Reads one by one, and draws at random while it reads."

        def __init__(self, size):
            self.size = size

        def __len__(self):
            return self.size

        def __getitem__(self, sample):
            drawn = torch.randn(6) / 4 + random.random() + float(np.random.rand())
            return drawn + torch.arange(6) * (sample % 3 - 1), sample % 3


    def drawn(*, samples: int = 14):
        def augment(inputs, targets, draws):
            return inputs + draws.normal(6) / 8, targets

        spec = DataSpec((6,), "vector", "class", 3)
        return DataBundle(spec, Drawn(samples), Drawn(6), Drawn(3), augment=augment)


    class Odd(nn.Module):
        "Dropout, batch norm, weight norm, a buffer that comes later, counters and generators of its own."

        def __init__(self, spec):
            super().__init__()
            self.first = nn.Linear(spec.input_size, 8)
            self.norm = nn.BatchNorm1d(8)
            self.dropout = nn.Dropout(0.4)
            self.last = nn.utils.parametrizations.weight_norm(nn.Linear(8, spec.output_size))
            self.register_buffer("shift", torch.zeros(8))
            self.register_buffer("later", None)
            self.steps, self.seen, self.recent = 0, {}, [0.0]
            self.source, self.own, self.numbers = torch.Generator(), random.Random(4), np.random.default_rng(5)

        def get_extra_state(self):
            drawn = [self.source.get_state(), self.own.getstate(), self.numbers.bit_generator.state]
            return {"steps": self.steps, "seen": self.seen, "recent": self.recent, "drawn": drawn}

        def set_extra_state(self, state):
            self.steps, self.seen, self.recent = state["steps"], state["seen"], state["recent"]
            source, own, self.numbers.bit_generator.state = state["drawn"]
            self.source.set_state(source)
            self.own.setstate(own)

        def forward(self, inputs):
            hidden = self.norm(self.first(inputs))
            if self.training:
                self.steps += 1
                self.seen[len(inputs)] = self.seen.get(len(inputs), 0) + 1
                self.recent = [*self.recent[-2:], float(inputs.mean())]
                self.shift = self.shift * 0.9 + hidden.detach().mean(0) * 0.1
                self.later = torch.full((2,), self.steps, dtype=torch.int16)
                noise = torch.randn(8, generator=self.source) + self.own.random() + float(self.numbers.random())
                hidden = hidden + noise / 10
            scale = 1 + (self.steps + sum(self.recent)) / 100
            return self.last(self.dropout(hidden - self.shift).relu()) * scale


    class Hiding(nn.Module):
        "An average of its weights, layers that are trained later, a buffer that grows."

        def __init__(self, spec):
            super().__init__()
            self.first, self.last = nn.Linear(spec.input_size, 5), nn.Linear(5, spec.output_size)
            self.first.requires_grad_(False)
            self.average = copy.deepcopy(self.last).requires_grad_(False)
            self.register_buffer("bank", torch.zeros(0, 5))
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

        def forward(self, inputs):
            hidden = self.first(inputs)
            if self.training:
                self.steps += 1
                self.first.requires_grad_(bool(self.steps > 2))
                self.bank = torch.cat([self.bank, hidden[:1].detach()])
                for average, parameter in zip(self.average.parameters(), self.last.parameters()):
                    average.data.lerp_(parameter.data, 0.2)
            return self.last(hidden) + self.average(hidden) + self.bank.sum() / 50


    class Recurrent(nn.Module):
        def __init__(self, spec):
            super().__init__()
            self.lstm = nn.LSTM(2, 5, num_layers=2, dropout=0.3, batch_first=True)
            self.last = nn.Linear(5, spec.output_size)

        def forward(self, inputs):
            return self.last(self.lstm(inputs.view(-1, 3, 2))[0][:, -1])


    class Tied(nn.Module):
        def __init__(self, spec):
            super().__init__()
            self.there = nn.Linear(6, 6)
            self.back = nn.Linear(6, 6, bias=False)
            self.back.weight = self.there.weight
            self.last = nn.Linear(6, spec.output_size)

        def forward(self, inputs):
            return self.last(self.back(self.there(inputs).tanh()))


    class Leaning(nn.Module):
        "Its buffer and its counter change what it gives."

        def __init__(self, spec):
            super().__init__()
            self.register_buffer("mean", torch.zeros(spec.output_size, dtype=torch.float64))
            self.calls = 0

        def forward(self, scores, targets):
            if scores.requires_grad:
                self.calls += 1
                self.mean += (scores.detach().double().mean(0) - self.mean) / self.calls
            return nn.functional.cross_entropy(scores - self.mean.float(), targets, reduction="none")


    class Centred(nn.Module):
        "Its running mean is a parameter that is not trained."

        def __init__(self, spec):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(spec.output_size), requires_grad=False)

        def forward(self, scores, targets):
            if scores.requires_grad:
                self.mean.data.lerp_(scores.detach().mean(0), 0.3)
            return nn.functional.cross_entropy(scores - self.mean, targets)


    class Looking(torch.optim.SGD):
        "Looks ahead: slow weights by parameter."

        @torch.no_grad()
        def step(self, closure=None):
            super().step()
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state[parameter]
                    state["steps"] = state.get("steps", 0) + 1
                    slow = state.setdefault("slow", parameter.clone())
                    if state["steps"] % 3 == 0:
                        parameter.copy_(slow.lerp_(parameter, 0.5))


    class Counting(torch.optim.Optimizer):
        "State that torch would turn into float32: ints, float64 and bool tensors, tuples."

        def __init__(self, params, *, lr: float = 0.05):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state[parameter]
                    if not state:
                        state |= {
                            "step": 0,
                            "exact": torch.zeros_like(parameter, dtype=torch.float64),
                            "pair": (0, 1.0),
                            "count": torch.tensor(2**53 + 1),
                            "up": torch.zeros(parameter.shape, dtype=torch.bool),
                        }
                    state["step"] += 1
                    state["count"] += 1
                    state["exact"] += parameter.grad.double() / 3
                    state["up"] = parameter.grad > 0
                    state["pair"] = (state["step"], state["pair"][1] * 1.0000001)
                    odd = int(state["count"] % 2)
                    move = state["exact"].float() / state["step"] + state["up"] * 0.01 * odd
                    parameter -= group["lr"] * state["pair"][1] * move


    class Bouncing:
        "No torch scheduler; its state is what it says it is."

        def __init__(self, optimizer, total_steps):
            self.optimizer, self.base = optimizer, optimizer.param_groups[0]["lr"]
            self.past, self.source = [1.0], random.Random(1)

        def step(self):
            self.past = [self.past[-1], 0.5 + self.source.random()]
            for group in self.optimizer.param_groups:
                group["lr"] = self.base * sum(self.past) / 2

        def state_dict(self):
            return {"past": self.past, "source": self.source.getstate()}

        def load_state_dict(self, state):
            self.past = state["past"]
            self.source.setstate(state["source"])


    class Shelf:
        def __init__(self):
            self.parts = []


    class Wandering:
        "Keeps lists, an object of its own and a generator, and is never wholly reset."

        def __init__(self, spec):
            self.shelf, self.source, self.epochs = Shelf(), torch.Generator().manual_seed(3), 0
            self.by_class = {}

        def update(self, scores, targets):
            self.shelf.parts.append(scores.mean(1) * torch.rand(len(scores), generator=self.source))
            for target in targets.tolist():
                self.by_class[target] = self.by_class.get(target, 0) + 1

        def compute(self):
            weights = sum(key * value for key, value in self.by_class.items())
            return torch.cat(self.shelf.parts).sum() + self.epochs + weights

        def reset(self):
            self.shelf.parts, self.by_class = [], {}
            self.epochs += 1

        def state_dict(self):
            return {"parts": self.shelf.parts, "drawn": self.source.get_state(), "epochs": self.epochs,
                    "by_class": self.by_class}

        def load_state_dict(self, state):
            self.shelf.parts, self.epochs, self.by_class = state["parts"], state["epochs"], state["by_class"]
            self.source.set_state(state["drawn"])


    class Plain:
        "Says nothing of its state: numbers, and tensors in lists."

        def __init__(self, spec): self.reset()
        def update(self, scores, targets): self.parts.append(scores.mean(1))
        def compute(self): return torch.cat(self.parts).sum()
        def reset(self): self.parts = []


    class Made:
        "Makes an object for each class that it meets."

        def __init__(self, spec):
            self.shelves = {}

        def update(self, scores, targets):
            for target in targets.tolist():
                self.shelves.setdefault(target, Shelf()).parts.append(target)

        def compute(self):
            return sum(len(shelf.parts) for shelf in self.shelves.values())

        def reset(self):
            self.shelves = {}


    def f1(spec):
        import torchmetrics

        return torchmetrics.F1Score(task="multiclass", num_classes=spec.output_size, average="macro")
"""
ODD = {
    "model": {"name": "odd"},
    "dataset": {"name": "drawn"},
    "metrics": {"accuracy": {}, "wandering": {}, "plain": {}},
    "loader": {"batch_size": 4, "placement": "workers", "num_workers": 0},
    "trainer": {"epochs": 2},
    "device": "cpu",
}
TOKENS = {
    "model": {"name": "embedding-bag"},
    "dataset": {
        "name": "random",
        "inputs": "tokens",
        "input_shape": [5],
        "vocabulary": 9,
        "output_size": 3,
        "samples": 14,
    },
}
SPARSE = TOKENS | {"model": {"name": "embedding-bag", "sparse": True}, "metrics": {"accuracy": {"name": "accuracy"}}}
PICTURES = {
    "model": {"name": "cnn", "channels": [4, 6]},
    "dataset": {"name": "random", "input_shape": [1, 8, 8], "output_size": 3, "samples": 14},
    "metrics": {"class-report": {"name": "class-report"}},
}
OPTIMIZERS = (
    *("sgd", "asgd", "rprop", "lbfgs", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "adamax", "nadam", "radam"),
    *("adafactor", "counting"),
)
SCHEDULERS = ("constant", "cosine", "exponential", "step", "multi-step", "one-cycle")


def case(*changes, **more):
    """The odd run with other sections; those of ``trainer`` and ``loader`` are added to its own."""
    values = dict(ODD)
    for each in (*changes, more):
        for section, value in each.items():
            values[section] = values[section] | value if section in ("trainer", "loader") else value
    return values


def optimizer(name, **settings):
    return {"optimizer": {"name": name, **settings}}


def trainer(**values):
    return {"trainer": values}


LESS = {"lbfgs": {"max_iter": 4}}  # its 20 evaluations a step show no more
STATEFUL = optimizer("sgd", lr=0.05, momentum=0.9)
CASES = {
    f"{name}-accumulate-{number}": case(
        optimizer(name, **LESS.get(name, {})), trainer(accumulate=number), scheduler={"name": "cosine"}
    )
    for name in OPTIMIZERS
    for number in (1, 3)
    if (name, number) != ("lbfgs", 3)  # which is refused
}
CASES |= {
    f"{name}-warm-up-{steps}": case(STATEFUL, scheduler={"name": name, "warmup_steps": steps})
    for name in SCHEDULERS
    for steps in (0, 3)
}
CASES |= {
    "bouncing": case(scheduler={"name": "bouncing"}),
    "lbfgs-wolfe": case(optimizer("lbfgs", line_search_fn="strong_wolfe", max_iter=4), model={"name": "mlp"}),
    "sgd-nesterov": case(optimizer("sgd", momentum=0.9, nesterov=True, weight_decay=0.1)),
    "adam-amsgrad": case(optimizer("adam", amsgrad=True), trainer(clip_norm=0.1)),
    "rmsprop-centered": case(optimizer("rmsprop", centered=True, momentum=0.5)),
    "asgd-that-averages": case(optimizer("asgd", t0=2)),
    "lbfgs-clipped": case(optimizer("lbfgs", max_iter=3), trainer(clip_norm=0.1)),
    "one-cycle-moves-betas": case(optimizer("adam"), scheduler={"name": "one-cycle"}),
    "groups": case({"optimizer": {"name": "adam", "groups": [{"match": "first.*", "lr": 0.1, "weight_decay": 0.2}]}}),
    "clip-norm": case(STATEFUL, trainer(clip_norm=0.5)),
    "clip-norm-accumulate-3": case(STATEFUL, trainer(clip_norm=0.5, accumulate=3)),
    "patience": case(trainer(epochs=6, patience=1), optimizer("sgd", lr=0.9)),
    "patience-inside": case(trainer(epochs=4, patience=2, eval_steps=1), optimizer("sgd", lr=0.9)),
    "eval-steps-1": case(trainer(eval_steps=1)),
    "eval-steps-3": case(trainer(eval_steps=3, eval_every=0)),
    "eval-every-2": case(trainer(epochs=3, eval_every=2)),
    "eval-never": case(trainer(eval_every=0)),
    "checkpoint-every-1": case(trainer(checkpoint_every=1)),
    "checkpoint-every-3-eval-steps-2": case(trainer(checkpoint_every=3, eval_steps=2, keep_last=3)),
    "keep-last-9": case(trainer(checkpoint_every=1, keep_last=9)),
    "accumulate-all": case(trainer(accumulate=9)),
    "accumulate-2-eval-steps-1": case(trainer(accumulate=2, eval_steps=1, checkpoint_every=1)),
    "drop-last": case(loader={"drop_last": True}),
    "no-shuffle": case(loader={"shuffle": False}),
    "bf16": case(trainer(precision="bf16")),
    "fp16": case(trainer(precision="fp16"), optimizer("adam")),
    "fp16-accumulate-3-clip-norm": case(trainer(precision="fp16", accumulate=3, clip_norm=0.5), STATEFUL),
    "lstm": case(model={"name": "lstm"}),
    "lstm-lbfgs": case(optimizer("lbfgs", max_iter=3), model={"name": "lstm"}),
    "lstm-bf16": case(trainer(precision="bf16"), model={"name": "lstm"}),
    "tied": case(STATEFUL, model={"name": "tied"}),
    "tied-adam-eval-steps-1": case(optimizer("adam"), trainer(eval_steps=1), model={"name": "tied"}),
    "torchmetrics": case(metrics={"f1": {"name": "ptb-odd:f1"}}),
    "no-metrics": case(metrics={}),
    "loss-with-buffers": case(loss={"name": "leaning"}),
    "loss-with-buffers-eval-steps-1": case(trainer(eval_steps=1, accumulate=3), loss={"name": "leaning"}),
    "tokens": case(TOKENS, loader={"placement": "auto"}),
    "tokens-host": case(TOKENS, loader={"placement": "host"}),
    "sparse-adam": case(SPARSE, optimizer("sparse-adam")),
    "sparse-adam-accumulate-3": case(SPARSE, optimizer("sparse-adam"), trainer(accumulate=3)),
    "sparse-sgd": case(SPARSE, optimizer("sgd")),
    "sparse-sgd-momentum": case(SPARSE, STATEFUL),
    "sparse-adagrad": case(SPARSE, optimizer("adagrad")),
    "hiding": case(optimizer("adam"), model={"name": "hiding"}),
    "hiding-eval-steps-1": case(STATEFUL, trainer(eval_steps=1, accumulate=3), model={"name": "hiding"}),
    "centred": case(loss={"name": "centred"}),
    "looking": case(optimizer("looking"), model={"name": "mlp"}),
    "pictures": case(PICTURES, optimizer("adam"), loader={"placement": "auto"}),
    "pictures-contiguous": case(PICTURES, STATEFUL, trainer(memory_format="contiguous"), loader={"placement": "auto"}),
    "pictures-adafactor": case(PICTURES, optimizer("adafactor"), loader={"placement": "auto"}),
    "pictures-lbfgs": case(PICTURES, optimizer("lbfgs", max_iter=2), loader={"placement": "auto"}),
    "max-steps": case(trainer(max_steps=5)),
    "monitor-accuracy": case(trainer(epochs=4, patience=2, eval_steps=1, monitor="val/accuracy")),
    "ema": case(optimizer("adam"), trainer(eval_steps=1), callbacks={"ema": {"decay": 0.8}}),
    "freeze": case(
        optimizer("adam"), trainer(epochs=3), callbacks={"freeze": {"match": ["first.*", "norm.*"], "until_epoch": 2}}
    ),
    "micro-batch-on-oom": case(STATEFUL, trainer(accumulate=2), callbacks={"micro-batch-on-oom": {}}),
    "workers-2": case(loader={"num_workers": 2}),
    "workers-2-accumulate-3-eval-steps-1": case(trainer(accumulate=3, eval_steps=1), loader={"num_workers": 2}),
}
QUICK = (
    *("adam-accumulate-3", "lbfgs-accumulate-1", "counting-accumulate-1", "one-cycle-warm-up-3", "bouncing"),
    *("patience-inside", "checkpoint-every-3-eval-steps-2", "fp16", "lstm", "tied-adam-eval-steps-1", "torchmetrics"),
    *("loss-with-buffers-eval-steps-1", "sparse-sgd-momentum", "pictures", "workers-2", "hiding", "looking"),
    *("max-steps", "ema"),
)


class Caller:
    """Stops a run as a signal does, the so-manieth time that it takes a step or looks whether it is to stop."""

    def __init__(self, at=None):
        self.at, self.calls = at, 0

    def line(self, text):
        pass

    def on_fit_start(self, trainer):
        look = trainer.check_stop

        def check_stop():
            self.count(trainer)
            look()

        trainer.check_stop = check_stop

    def on_step_end(self, trainer, output):
        self.count(trainer)

    def count(self, trainer):
        self.calls += 1
        if self.calls == self.at:
            trainer.state.stop_signal, trainer.state.should_stop = signal.SIGTERM, True


@pytest.fixture
def registry(site):
    site.add("ptb-odd", PROVIDES)
    site.write("odd_parts.py", PARTS)
    return site.registry()


def begun(values, registry, path, progress=None, stop_after=None):
    composed = compose(resolve(RunConfig(**values), registry))
    return start_run(composed, path, progress, stop_after=stop_after)


def resumed(registry, path, progress=None, **options):
    run = RunDirectory.open(path)
    return resume_run(compose(resolve(resume_config(run), registry)), run, progress, **options)


def stopped_at(values, registry, path, call):
    """Whether the run was stopped when it asked for the so-manieth time; else it has come to its end."""
    try:
        begun(values, registry, path, Caller(call))
    except InterruptedRunError:
        return True
    return False


def lives(values, registry, path, seed=0):
    """Stops a run again and again, at another place each time; tells how often."""
    calls, number = random.Random(seed), 0
    while True:
        number += 1
        try:
            caller = Caller(calls.randrange(1, 4))
            resumed(registry, path, caller) if path.exists() else begun(values, registry, path, caller)
        except InterruptedRunError:
            continue
        return number - 1


def last(path):
    return load_checkpoint(list(find_checkpoints(path / "checkpoints").values())[-1])


def rows(path):
    text = (path / "metrics.jsonl").read_text()
    return [{**json.loads(line), "samples_per_second": 0} for line in text.splitlines()]


def summary(path):
    facts = json.loads((path / "summary.json").read_text())
    return {key: value for key, value in facts.items() if key not in ("train_seconds", "samples_per_second")}


def best(path):
    """The checkpoint of the best step."""
    step = last(path).metadata["labels"].get("best")
    return None if step is None else load_checkpoint(find_checkpoints(path / "checkpoints")[step])


def unlike(one, other):
    """What two runs ended differently in."""
    told = differences(last(one).state, last(other).state)
    told += [] if rows(one) == rows(other) else [f"metrics.jsonl: {rows(one)} and {rows(other)}"]
    told += [] if summary(one) == summary(other) else [f"summary.json: {summary(one)} and {summary(other)}"]
    first, second = best(one), best(other)
    if first is None or second is None:
        return told if first is second else [*told, "one has no best checkpoint"]
    return told + [f"best: {text}" for text in differences(first.state, second.state)]


@pytest.mark.parametrize("name", QUICK)
def test_a_run_that_is_stopped_after_every_step_ends_with_the_same_bits(registry, tmp_path, name):
    whole = begun(CASES[name], registry, tmp_path / "whole")
    result = begun(CASES[name], registry, tmp_path / "cut", stop_after=1)
    assert (result.status, result.step) == ("interrupted", 1)
    for step in range(2, whole.step + 1):
        result = resumed(registry, tmp_path / "cut", stop_after=step)
        # Where trainer.max_steps is reached, nothing is left to stop.
        over = name == "max-steps" and step == whole.step
        assert (result.status, result.step) == ("finished" if over else "interrupted", step)
    assert resumed(registry, tmp_path / "cut").status == "finished"
    assert unlike(tmp_path / "whole", tmp_path / "cut") == []


@pytest.mark.parametrize("name", ["adam-accumulate-1", "loss-with-buffers", "hiding", "centred"])
def test_an_evaluation_of_a_checkpoint_gives_the_figures_of_the_run(registry, tmp_path, name):
    result = begun(CASES[name], registry, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    told = evaluate_run(run, resolve(evaluation_config(run, metrics=["accuracy"]), registry), checkpoint="last")
    assert told["metrics"] == {key: result.metrics[key] for key in ("test/loss", "test/accuracy")}


def test_what_a_component_would_lose_is_told_before_it_is_lost(registry, tmp_path):
    values = case(metrics={"made": {}})
    with pytest.warns(UserWarning, match=r"metric 'made' keeps state that is in no state_dict: shelves.*`ptb resume`"):
        begun(values, registry, tmp_path / "run", stop_after=2)
    with pytest.raises(PluginError, match=r"cannot be resumed exactly: metric 'made' keeps state"):
        resumed(registry, tmp_path / "run")


@pytest.mark.parametrize("name", ["adam-accumulate-3", "patience-inside", "loss-with-buffers"])
def test_a_run_that_is_stopped_anywhere_even_in_evaluations_ends_with_the_same_bits(registry, tmp_path, name):
    begun(CASES[name], registry, tmp_path / "whole")
    assert lives(CASES[name], registry, tmp_path / "cut") > 2
    assert unlike(tmp_path / "whole", tmp_path / "cut") == []


def test_an_evaluation_that_is_stopped_is_made_again_and_counts_once(registry, tmp_path):
    values = case(trainer(eval_steps=2))  # 4 steps an epoch; 2 batches of the validation split, and 1 of the test split
    begun(values, registry, tmp_path / "whole")
    asked = Caller()
    begun(values, registry, tmp_path / "counted", asked)
    assert asked.calls == 8 + 4 * 2 + 1
    assert stopped_at(values, registry, tmp_path / "cut", 4)  # after step 2, in the second batch of the evaluation
    assert summary(tmp_path / "cut")["step"] == 2
    assert not (tmp_path / "cut" / "metrics.jsonl").exists()
    resumed(registry, tmp_path / "cut")
    assert [row["step"] for row in rows(tmp_path / "cut")] == [2, 4, 4, 6, 8, 8, 8]
    assert unlike(tmp_path / "whole", tmp_path / "cut") == []


def test_a_finished_run_stays_as_it_is(registry, tmp_path):
    whole = begun(CASES["patience"], registry, tmp_path / "run")
    before = [(tmp_path / "run" / name).read_bytes() for name in ("summary.json", "metrics.jsonl", "manifest.json")]
    again = resumed(registry, tmp_path / "run")
    assert (again.step, again.weights_sha256) == (whole.step, whole.weights_sha256)
    assert [
        (tmp_path / "run" / name).read_bytes() for name in ("summary.json", "metrics.jsonl", "manifest.json")
    ] == before


def test_the_state_of_a_callback_that_is_left_out_is_not_lost_unseen(registry, tmp_path):
    path = tmp_path / "run"
    begun(case(callbacks={"ema": {}}), registry, path, stop_after=3)
    config = path / "config.toml"
    text = config.read_text()
    config.write_text(text[: text.index("[callbacks.ema]")] + text[text.index("[loader]") :])
    with pytest.raises(StorageError, match=r"callback 'ema', which .*config.toml, or resume with --drop-state ema$"):
        resumed(registry, path)
    with pytest.raises(ConfigError, match=r"--drop-state emma: .* holds no state .*; it holds those of ema$"):
        resumed(registry, path, drop_state=["emma"])
    assert resumed(registry, path, drop_state=["ema"]).status == "finished"


class Scaled:
    """An actor that keeps nothing."""

    def around_step(self, trainer, step):
        step()


class Scales:
    @hookimpl
    def ptb_provide_callbacks(self):
        return [Component("scaled", f"{__name__}:Scaled", role="actor")]


def test_an_actor_without_state_is_not_left_out_unseen_either(tmp_path):
    registry, path = load_registry(plugins=[Scales()]), tmp_path / "run"
    sections = {"model": {"name": "linear"}, "dataset": {"size": 8}, "callbacks": {"Scales:scaled": {}}}
    begun(sections | {"device": "cpu", "trainer": {"epochs": 1}}, registry, path, stop_after=3)
    config = path / "config.toml"
    text = config.read_text()
    config.write_text(text[: text.index("[callbacks.")] + text[text.index("[loader]") :])
    refused = pytest.raises(
        StorageError, match=r"was saved with callback 'Scales:scaled', .* --drop-state Scales:scaled$"
    )
    with pytest.warns(match="plugin Scales: not used"), refused:
        resumed(registry, path)
    with pytest.warns(match="plugin Scales: not used"):
        assert resumed(registry, path, drop_state=["Scales:scaled"]).status == "finished"


def test_an_observer_may_be_added_and_changes_nothing(registry, tmp_path):
    begun(case(), registry, tmp_path / "whole")
    begun(case(), registry, tmp_path / "cut", stop_after=3)
    run = RunDirectory.open(tmp_path / "cut")
    resume_run(compose(resolve(resume_config(run, callbacks=["non-finite-report"]), registry)), run)
    told = unlike(tmp_path / "whole", tmp_path / "cut")
    assert [text for text in told if not text.removeprefix("best: ").startswith("callbacks")] == []


def test_the_number_of_processes_that_read_may_change_between_two_lives(registry, tmp_path):
    begun(case(), registry, tmp_path / "whole")
    begun(case(), registry, tmp_path / "cut", stop_after=3)
    run = RunDirectory.open(tmp_path / "cut")
    resume_run(compose(resolve(resume_config(run, ["loader.num_workers=2"]), registry)), run)
    assert unlike(tmp_path / "whole", tmp_path / "cut") == []


def test_a_run_goes_on_in_another_process_with_the_same_bits(registry, site, ptb, tmp_path):
    begun(case(optimizer("adam")), registry, tmp_path / "whole")
    begun(case(optimizer("adam")), registry, tmp_path / "cut", stop_after=3)
    done = ptb("resume", "cut", "--json", site=site.path)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "finished"), done.stderr
    assert "warning" not in done.stderr
    assert unlike(tmp_path / "whole", tmp_path / "cut") == []


@pytest.mark.parametrize(
    ("forgotten", "differs"),
    [
        ("ptb.training.snapshot.set_random_state", "model."),
        ("ptb.training.snapshot.load_optimizer", "optimizer"),
        ("ptb.training.snapshot.load_weights", "model."),
        ("ptb.training.metrics.RunningMetrics.load_state_dict", "metrics.jsonl"),
        ("ptb.training.metrics.load_component_state", "metrics.jsonl"),
        ("torch.optim.lr_scheduler.LRScheduler.load_state_dict", "scheduler"),
    ],
)
def test_what_a_checkpoint_does_not_give_back_is_seen(registry, tmp_path, monkeypatch, forgotten, differs):
    values = case(optimizer("adam"), scheduler={"name": "cosine"})
    begun(values, registry, tmp_path / "whole")
    begun(values, registry, tmp_path / "cut", stop_after=3)
    run = RunDirectory.open(tmp_path / "cut")
    composed = compose(resolve(resume_config(run), registry))
    with monkeypatch.context() as patch:
        patch.setattr(forgotten, lambda *_: None)
        with pytest.warns(UserWarning, match="cannot be restored exactly"):
            resume_run(composed, run)
    told = unlike(tmp_path / "whole", tmp_path / "cut")
    assert any(text.startswith(differs) for text in told), told


@pytest.mark.parametrize("left_out", ["random", "optimizer", "train_metrics", "train_state", "loss", "callbacks"])
def test_a_checkpoint_that_lacks_a_part_is_refused(registry, tmp_path, monkeypatch, left_out):
    whole = recorder.take_snapshot

    def lacking(trainer):
        return {name: part for name, part in whole(trainer).items() if name != left_out}

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "take_snapshot", lacking)
        begun(case(), registry, tmp_path / "cut", stop_after=3)
    with pytest.raises(StorageError, match=f"KeyError: '{left_out}'"):
        resumed(registry, tmp_path / "cut")


@pytest.mark.reliability
@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_stopped_at_any_one_place_ends_with_the_same_bits(registry, tmp_path, name):
    values = CASES[name]
    asked = Caller()
    begun(values, registry, tmp_path / "whole", asked)
    for call in range(1, asked.calls + 1):
        path = tmp_path / str(call)
        assert stopped_at(values, registry, path, call)
        assert resumed(registry, path).status == "finished"
        assert unlike(tmp_path / "whole", path) == [], f"stopped when it asked for the time {call}"


@pytest.mark.reliability
@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_stopped_many_times_ends_with_the_same_bits(registry, tmp_path, name):
    begun(CASES[name], registry, tmp_path / "whole")
    for seed in range(3):
        lives(CASES[name], registry, tmp_path / str(seed), seed)
        assert unlike(tmp_path / "whole", tmp_path / str(seed)) == []


@pytest.mark.reliability
@pytest.mark.parametrize(
    "name", ["lbfgs-accumulate-1", "counting-accumulate-1", "lstm", "sparse-sgd-momentum", "fp16", "workers-2"]
)
def test_a_run_goes_on_in_another_process_whatever_it_is_made_of(registry, site, ptb, tmp_path, name):
    whole = begun(CASES[name], registry, tmp_path / "whole")
    begun(CASES[name], registry, tmp_path / "cut", stop_after=1)
    for _ in range(1, whole.step):
        step = summary(tmp_path / "cut")["step"] + 1
        done = ptb("resume", "cut", "--stop-after", step, site=site.path)
        assert done.returncode == 0, done.stderr
        if step == 3:
            break
    done = ptb("resume", "cut", site=site.path)
    assert (done.returncode, "warning" in done.stderr) == (0, False), done.stderr
    assert unlike(tmp_path / "whole", tmp_path / "cut") == []
