"""One epoch of the same training in other frameworks: same model, samples, batch size and optimizer.

Each function takes the work and returns the seconds of its training phase. What a framework would do beside training
(progress bars, checkpoints, loggers) is switched off; loss and accuracy of the training samples are kept, as ptb does.
"""

import logging
import os
import tempfile
import warnings
from dataclasses import dataclass
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Work:
    """What all of them train: a fresh model, samples one by one, and settings."""

    model: nn.Module
    samples: Dataset
    batch_size: int
    lr: float

    def optimizer(self):
        return torch.optim.Adam(self.model.parameters(), lr=self.lr)

    def loader(self):
        return DataLoader(self.samples, batch_size=self.batch_size, shuffle=True)


def by_hand(work):
    """A ``Dataset`` and a ``DataLoader``, as the tutorials of PyTorch write it."""
    optimizer, began = work.optimizer(), perf_counter()
    loss_sum = correct = seen = 0
    work.model.train()
    for inputs, targets in work.loader():
        optimizer.zero_grad()
        scores = work.model(inputs)
        loss = F.cross_entropy(scores, targets)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(targets)
        correct += (scores.argmax(1) == targets).sum().item()
        seen += len(targets)
    return perf_counter() - began


def lightning(work):
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = work.model
            self.seconds = 0.0

        def training_step(self, batch, _index):
            inputs, targets = batch
            scores = self.model(inputs)
            loss = F.cross_entropy(scores, targets)
            correct = (scores.argmax(1) == targets).float().mean()
            self.log_dict({"loss": loss, "accuracy": correct}, on_step=False, on_epoch=True, batch_size=len(targets))
            return loss

        def configure_optimizers(self):
            return work.optimizer()

        def on_train_start(self):
            self.seconds = perf_counter()

        def on_train_end(self):
            self.seconds = perf_counter() - self.seconds

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module = Module()
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, work.loader())
    return module.seconds


def ignite(work):
    from ignite.engine import create_supervised_trainer
    from ignite.metrics import Accuracy, RunningAverage

    optimizer = work.optimizer()
    trainer = create_supervised_trainer(
        work.model, optimizer, F.cross_entropy, output_transform=lambda x, y, y_pred, loss: (loss.item(), y_pred, y)
    )
    Accuracy(output_transform=lambda output: output[1:]).attach(trainer, "accuracy")
    RunningAverage(output_transform=lambda output: output[0]).attach(trainer, "loss")
    loader, began = work.loader(), perf_counter()
    trainer.run(loader, max_epochs=1)
    return perf_counter() - began


def accelerate(work):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(work.model, work.optimizer(), work.loader())
    loss_sum = correct = 0
    model.train()
    began = perf_counter()
    for inputs, targets in loader:
        optimizer.zero_grad()
        scores = model(inputs)
        loss = F.cross_entropy(scores, targets)
        accelerator.backward(loss)
        optimizer.step()
        loss_sum += loss.item() * len(targets)
        correct += (scores.argmax(1) == targets).sum().item()
    return perf_counter() - began


def transformers(work):
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = work.model

        def forward(self, inputs, labels=None):
            scores = self.model(inputs)
            return {"loss": F.cross_entropy(scores, labels), "logits": scores}

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_train_begin(self, *_arguments, **_more):
            self.seconds = perf_counter()

        def on_train_end(self, *_arguments, **_more):
            self.seconds = perf_counter() - self.seconds

    def collate(samples):
        return {
            "inputs": torch.stack([inputs for inputs, _ in samples]),
            "labels": torch.stack([target for _, target in samples]),
        }

    clock, model = Clock(), Wrapped()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=work.batch_size,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            remove_unused_columns=False,
            use_cpu=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=work.samples,
            data_collator=collate,
            optimizers=(work.optimizer(), None),
            callbacks=[clock],
        )
        trainer.train()
    return clock.seconds


def skorch(work):
    from skorch import NeuralNetClassifier
    from skorch.callbacks import EpochScoring

    class Started(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = work.model

        def forward(self, inputs):
            return self.model(inputs)

    accuracy = EpochScoring("accuracy", on_train=True, name="train_accuracy", lower_is_better=False)
    net = NeuralNetClassifier(
        Started,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=work.lr,
        batch_size=work.batch_size,
        max_epochs=1,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[("accuracy", accuracy)],
        verbose=0,
        device="cpu",
        classes=list(range(10)),
    )
    net.initialize()
    began = perf_counter()
    net.partial_fit(work.samples, y=None)
    return perf_counter() - began


def keras(work):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    from keras.layers import TorchModuleWrapper

    model = keras.Sequential([TorchModuleWrapper(work.model)])

    class Clock(keras.callbacks.Callback):
        seconds = 0.0

        def on_train_begin(self, logs=None):
            self.seconds = perf_counter()

        def on_train_end(self, logs=None):
            self.seconds = perf_counter() - self.seconds

    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=work.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    clock = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(work.loader(), epochs=1, verbose=0, callbacks=[clock])
    return clock.seconds


# The name of each on the package index, and what trains with it.
FRAMEWORKS = {
    "lightning": lightning,
    "pytorch-ignite": ignite,
    "accelerate": accelerate,
    "transformers": transformers,
    "skorch": skorch,
    "keras": keras,
}
