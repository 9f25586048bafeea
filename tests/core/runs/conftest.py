"""Plugins of strangers whose parts fit each other or do not, and a run composed of them."""

import pytest

from ptb import RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose

STRANGE = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_datasets():
        return [Component("toy", "strange_parts:toy")]

    @hookimpl
    def ptb_provide_models():
        names = ("plain", "narrow", "raises", "nothing", "shy", "exits", "bare")
        return [Component(name, f"strange_parts:{name}") for name in names]

    @hookimpl
    def ptb_provide_losses():
        return [Component(name, f"strange_parts:{name}") for name in ("square", "vector", "bad", "number")]

    @hookimpl
    def ptb_provide_metrics():
        return [Component("crash", "strange_parts:Crash")]
"""
STRANGE_PARTS = """
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset
    from ptb import DataBundle, DataSpec

    def toy(*, case: str = "good", size: int = 8):
        inputs, targets = torch.randn(12, size), torch.randn(12, 1)
        spec = DataSpec((size,), "vector", "real", 1)
        if case == "shape":
            inputs = inputs[:, 1:]
        if case == "nan":
            inputs[0, 0] = float("nan")
        if case == "flat":
            targets = targets[:, 0]
        if case == "double":
            targets = targets.double()
        if case == "empty":
            inputs, targets = inputs[:0], targets[:0]
        if case == "raises":
            raise RuntimeError("no such table")
        if case == "oserror":
            raise OSError(2, "No such file", "table.csv")
        if case == "nothing":
            return None
        return DataBundle(spec, TensorDataset(inputs, targets))

    def plain(spec): return nn.Linear(spec.input_size, spec.output_size)
    def narrow(spec): return nn.Linear(spec.input_size, spec.output_size + 1)
    def nothing(spec): return None
    def exits(spec): raise SystemExit(0)
    def bare(spec): return nn.Flatten()
    def raises(spec): raise KeyError("width")
    def shy(spec): return nn.Linear(3, 1)
    def square(spec): return nn.MSELoss()
    def vector(spec): return lambda scores, targets: (scores - targets).square().mean(0)
    def number(spec): return lambda scores, targets: 3.0
    def bad(spec): return nn.NLLLoss()

    class Crash:
        def __init__(self, spec): ...
        def update(self, scores, targets): raise ValueError("no classes here")
        def compute(self): return 0.0
        def reset(self): ...
"""
ODD = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_datasets():
        return [Component("odd", "odd_parts:odd")]

    @hookimpl
    def ptb_provide_models():
        return [Component(name, f"odd_parts:{name}") for name in ("plain", "norm", "idle", "sparse", "boom", "frozen")]

    @hookimpl
    def ptb_provide_initializers():
        return [Component("picky", "odd_parts:picky")]

    @hookimpl
    def ptb_provide_schedulers():
        return [Component("short", "odd_parts:short")]

    @hookimpl
    def ptb_provide_losses():
        return [Component(name, f"odd_parts:{name}") for name in ("refuses", "detached")]

    @hookimpl
    def ptb_provide_optimizers():
        return [
            Component("sparse-only", "torch.optim:SparseAdam", needs=("sparse-gradients",)),
            Component("plain-adam", "torch.optim:Adam"),
        ]
"""
ODD_PARTS = """
    import torch
    from torch import nn
    from torch.utils.data import Dataset, TensorDataset
    from ptb import DataBundle, DataSpec

    class Listed(Dataset):
        def __init__(self, samples): self.samples = samples
        def __len__(self): return len(self.samples)
        def __getitem__(self, index):
            sample = self.samples[index]
            if isinstance(sample, Exception):
                raise sample
            return sample

    def odd(*, kind: str = "class", case: str = "good", listed: bool = False, size: int = 33):
        inputs = torch.randn(size, 4)
        targets = {
            "class": lambda: torch.arange(size) % 3,
            "binary": lambda: (torch.arange(size) % 2).float()[:, None],
            "real": lambda: torch.randn(size, 3),
            "distribution": lambda: torch.full((size, 3), 1 / 3),
            "similarity": lambda: torch.arange(size).float() % 2 * 2 - 1,
            "tokens": lambda: torch.arange(size) % 3,
        }[kind]()
        spec = DataSpec((4,), "vector", kind if kind != "tokens" else "class", 1 if kind == "binary" else 3)
        if kind == "similarity":
            inputs = torch.randn(size, 2, 4)
        if kind == "tokens":
            inputs = torch.arange(size * 4).view(size, 4) % 7
            spec = DataSpec((4,), "tokens", "class", 3, vocabulary=7)
        bad = {"low": -1, "high": 3, "half": 0.5, "two": 2.0, "zero": 0.0, "nan": float("nan"), "inf": float("inf")}
        if case in bad:
            targets[20] = bad[case]
        if case == "same":
            targets[:] = 1
        if case == "input-nan":
            inputs[20, 0] = float("nan")
        if case == "token":
            inputs[20, 0] = 7
        if case == "negative":
            targets[20] = torch.tensor([1.5, -0.5, 0.0])
        if case == "column":
            targets = targets[:, None]
        if case == "float":
            targets = targets.double()
        data = TensorDataset(inputs, targets)
        if listed:
            samples = list(zip(inputs, targets))
            if case == "shapes":
                samples[20] = (torch.zeros(5), samples[20][1])
            if case == "raises":
                samples[20] = OSError("disk")
            if case == "none":
                samples[20] = None
            data = Listed(samples)
        empty = TensorDataset(inputs[:0], targets[:0])
        return DataBundle(spec, data, val=empty if case == "empty-val" else None)

    def plain(spec): return nn.Linear(spec.input_size, spec.output_size)
    def norm(spec): return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, spec.output_size))
    def sparse(spec): return nn.Sequential(nn.EmbeddingBag(spec.vocabulary, spec.output_size, sparse=True))

    class idle(nn.Linear):
        def __init__(self, spec):
            super().__init__(spec.input_size, spec.output_size)
            self.spare = nn.Linear(2, 2)

    def frozen(spec):
        model = idle(spec)
        model.spare.requires_grad_(False)
        return model

    class boom(nn.Linear):
        def __init__(self, spec): super().__init__(spec.input_size, spec.output_size)
        def forward(self, inputs):
            if self.training:
                raise RuntimeError("only in training")
            return super().forward(inputs)

    def picky(module): raise ValueError("fits weights of 3 to 5 dimensions")
    def short(optimizer, total_steps): raise ValueError(f"warm-up of 999 steps, the run has {total_steps}")
    def refuses(spec): raise ValueError("2 weights for 3 classes")
    def detached(spec): return lambda scores, targets: scores.detach().sum()
"""


@pytest.fixture
def strange(site):
    """Composes a run of strange parts, by default of those that fit."""
    site.add("ptb-strange", STRANGE, version="0.3", module="strange")
    site.write("strange_parts.py", STRANGE_PARTS)
    registry = site.registry()

    def build(model="plain", loss="square", **sections):
        base = {"dataset": {"name": "toy"}, "model": {"name": model}, "loss": {"name": loss}}
        return compose(resolve(RunConfig(**{**base, "loader": {"batch_size": 4}, **sections}), registry))

    return build


@pytest.fixture
def odd(site):
    """Composes a run on a data set that has something wrong with it, or with odd parts."""
    site.add("ptb-odd", ODD, module="ptb_odd")
    site.write("odd_parts.py", ODD_PARTS)
    registry = site.registry()

    def build(kind="class", case="good", listed=False, model="plain", size=33, **sections):
        dataset = {"name": "odd", "kind": kind, "case": case, "listed": listed, "size": size}
        base = {"dataset": dataset, "model": {"name": model}, "loader": {"batch_size": 8}}
        return compose(resolve(RunConfig(**{**base, **sections}), registry))

    return build
