"""Trains small networks in however many processes there are, and saves the weights of each case: a script.

``python training_cases.py FILE STEPS [CASE...]``, alone or as one of the processes of a launcher.
"""

import sys
from threading import Lock

import torch
from torch import nn
from torch.utils.data import TensorDataset

from ptb import DataSpec
from ptb.cli.lazy_dynamo import put_off_dynamo
from ptb.config.sections import TrainerSettings
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb.runs.processes import join, share_batches
from ptb.seeding import seed_global
from ptb.training.callback_list import CallbackList
from ptb.training.objective import Objective
from ptb.training.trainer import Trainer
from ptb_losses.cross_entropy import CrossEntropy

CPU = torch.device("cpu")
SAMPLES, BATCH = 150, 20
SEEDING = Lock()


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(30, 8, sparse=True)
        self.out = nn.Linear(8, 4)

    def forward(self, tokens):
        return self.out(self.bag(tokens))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))


def conv(*extra):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), *extra, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 4)
    )


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.005)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


SPEC = DataSpec((1, 8, 8), "image", "class", 4)
WEIGHTS = [0.2, 1.0, 3.0, 0.7]
CASES = {
    "mlp-sgd": {"model": mlp, "optimizer": sgd},
    "mlp-adam": {"model": mlp, "optimizer": adam},
    "mlp-accumulate": {"model": mlp, "optimizer": sgd, "accumulate": 3},
    "mlp-clip": {"model": mlp, "optimizer": sgd, "clip_norm": 0.1},
    "mlp-weights": {"model": mlp, "optimizer": sgd, "loss": {"weight": WEIGHTS}},
    "mlp-ignored": {"model": mlp, "optimizer": sgd, "loss": {"ignore_index": 1}},
    "mlp-accumulate-weights": {
        "model": mlp, "optimizer": adam, "accumulate": 3, "loss": {"weight": WEIGHTS},
    },
    "conv-adam": {"model": conv, "optimizer": adam},
    "bag-sgd": {"model": Bag, "optimizer": plain_sgd, "tokens": True},
    "bag-accumulate": {"model": Bag, "optimizer": plain_sgd, "tokens": True, "accumulate": 3},
    "batch-norm": {"model": lambda: conv(nn.BatchNorm2d(6)), "optimizer": sgd},
    "dropout": {"model": lambda: conv(nn.Dropout(0.3)), "optimizer": adam},
    "lbfgs": {"model": mlp, "optimizer": lbfgs, "closure": True},
    "bf16": {"model": conv, "optimizer": adam, "autocast": torch.bfloat16},
}  # fmt: skip


def data(tokens):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (SAMPLES,), generator=generator)
    if tokens:
        return TensorDataset(torch.randint(30, (SAMPLES, 5), generator=generator), targets)
    pictures = torch.randn(SAMPLES, 1, 8, 8, generator=generator) + targets[:, None, None, None]
    return TensorDataset(pictures, targets)


def trained(case, steps, world, shards, *, in_pieces=None):
    """The weights after so many steps; ``in_pieces`` takes the pieces of several processes one after the other."""
    loss = CrossEntropy(SPEC, **case.get("loss", {}))
    with SEEDING:  # ranks may be threads, which have one global generator
        seed_global(1)
        model = case["model"]()
    if world is not None:
        world.gather(None)  # nobody draws for a step before all have a model
    optimizer = case["optimizer"](model.parameters())
    source = make_sources({"train": data(case.get("tokens", False))}, CPU)["train"]
    loader = BatchLoader(source, batch_size=BATCH, seed=3, shuffle=True)
    settings = TrainerSettings(
        epochs=100, max_steps=steps, accumulate=case.get("accumulate", 1), clip_norm=case.get("clip_norm")
    )
    trainer = Trainer(
        Objective(model, loss, CPU, autocast=case.get("autocast")),
        optimizer,
        torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        loader,
        {},
        settings,
        callbacks=CallbackList(case.get("actors")),
        needs_closure=case.get("closure", False),
    )
    share_batches(trainer, world, shards, seed=5)
    if in_pieces:
        step = trainer.train_step
        trainer._take_step = lambda batches: step([piece for batch in batches for piece in _cut(batch, in_pieces)])
    trainer.fit()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _cut(batch, count):
    return [batch.map(lambda tensor, rows=rows: tensor[rows]) for rows in torch.arange(batch.size).tensor_split(count)]


def main(file, steps, *names):
    torch.set_num_threads(1)
    put_off_dynamo()
    world = join(CPU)
    found = {}
    for name in names or CASES:
        for number in (1, int(steps)):
            found[name, number, None] = trained(CASES[name], number, world, None)
        found[name, 9, 4] = trained(CASES[name], 9, world, 4)
    if world is None or world.rank == 0:
        torch.save(found, file)
    if world is not None:
        world.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
