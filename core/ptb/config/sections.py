"""The sections of a configuration that belong to the core itself, each a pydantic model. Imports no torch."""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def _fits_machine(count: int) -> int:
    """Far more threads or processes than cores only wait for each other, and thousands can bring a machine down.

    64 are let through everywhere, so that the record of a run on a large machine can be repeated on a small one.
    """
    cores = os.cpu_count() or 1
    if count > (most := max(4 * cores, 64)):
        raise ValueError(f"must be at most {most} on a machine of {cores} core{'s' * (cores != 1)}")
    return count


Parallel = Annotated[int, AfterValidator(_fits_machine)]


class RunSettings(BaseModel, defer_build=True):
    """The keys that stand in no section."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=2**63, description="Every random stream of the run is derived from it")
    threads: Parallel = Field(
        0,
        ge=0,
        description="CPU threads of torch, at most 4 a core or 64; 0: one where a step has little to do, else as torch "
        "does",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps; auto takes the first GPU, else the CPU")

    @field_validator("device")
    @classmethod
    def _is_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError("must be auto, cpu, cuda, cuda:N or mps")
        return device


class LoaderSettings(BaseModel, defer_build=True):
    """The section ``loader``; each key means what it means in ``torch.utils.data.DataLoader``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(32, gt=0, description="Samples in a batch")
    placement: Literal["auto", "device", "host", "workers"] = Field(
        "auto",
        description="Where batches come from: the memory of the device, that of the host, or processes that read the "
        "samples; all give the same batches, and auto takes the first that can be",
    )
    num_workers: Parallel | None = Field(
        None,
        ge=0,
        description="Processes that read samples, at most 4 a core or 64; without it as many as are worth it",
    )
    prefetch_factor: int | None = Field(
        None, gt=0, description="Batches that each process reads ahead; without it 2, as torch does"
    )
    pin_memory: bool | None = Field(
        None, description="Copy batches into page-locked memory first; without it where the device is a GPU"
    )
    persistent_workers: bool = Field(True, description="Keep the processes from one epoch to the next")
    multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = Field(
        None, description="How the processes are started; without it as Python does on this system"
    )
    timeout: float = Field(
        120.0,
        gt=0,
        allow_inf_nan=False,
        description="Longest wait for one batch where processes read samples, in seconds; then the run fails",
    )
    shuffle: bool = Field(True, description="A new order of the training samples for each epoch")
    balance: bool = Field(
        False,
        description="Choose the training samples of an epoch with replacement, so that each class is equally likely",
    )
    drop_last: bool = Field(False, description="Leave out a last training batch that is not full")

    @model_validator(mode="after")
    def _fit_together(self) -> "LoaderSettings":
        if self.num_workers and self.placement in ("device", "host"):
            raise ValueError(
                f"num_workers belongs to placement=workers, and placement is {self.placement}; leave one out"
            )
        if self.balance and not self.shuffle:
            raise ValueError("balance chooses the samples at random, and shuffle is false; leave one out")
        return self


class TrainerSettings(BaseModel, defer_build=True):
    """The section ``trainer``.

    What a validator says follows the key: "must be ..."; it is shown with the value that was got.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(20, gt=0, description="Passes over the training samples")
    eval_every: int = Field(
        1, ge=0, description="Epochs from one evaluation on the validation split to the next; 0: none at their ends"
    )
    eval_steps: int = Field(
        0, ge=0, description="Optimizer steps from one evaluation to the next, beside those of eval_every; 0: none"
    )
    checkpoint_every: int = Field(
        0, ge=0, description="Optimizer steps from one checkpoint to the next; 0: every epoch"
    )
    keep_last: int = Field(2, ge=2, description="Newest checkpoints that are kept, beside the best")
    accumulate: int = Field(
        1, gt=0, description="Batches whose gradients make one optimizer step, as one batch of all their samples would"
    )
    virtual_shards: int | None = Field(
        None,
        gt=0,
        le=1024,
        description="Pieces of each batch whose gradients are added up in a fixed order: any number of processes that "
        "divides it gives the same bits",
    )
    clip_norm: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Largest norm of the gradients; without it they are not cut"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Type of the forward pass where that is safe (autocast); fp16 scales the loss"
    )
    memory_format: Literal["auto", "contiguous", "channels-last"] = Field(
        "auto",
        description="Order of the values of four-dimensional weights in memory; auto: channels-last on the CPU, where "
        "convolutions are faster with it, if all parts can take it",
    )
    compile: bool = Field(
        False,
        description="Compile the model with torch.compile before the training: for runs that take longer than that",
    )
    monitor: str = Field(
        "val/loss",
        description="The figure that chooses the best checkpoint and that patience watches: SPLIT/LABEL, or "
        "SPLIT/LABEL/FIGURE of a metric with several; never of the test split",
    )
    mode: Literal["auto", "min", "max"] = Field(
        "auto", description="Whether the smallest or the largest monitored figure is the best; auto: as its metric says"
    )
    patience: int = Field(
        0, ge=0, description="Evaluations without a better monitored figure after which training ends; 0: never"
    )
    max_steps: int = Field(0, ge=0, description="Optimizer steps after which training ends; 0: after the last epoch")
    max_time: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Seconds of training after which it ends; 0: after the last epoch"
    )

    @field_validator("monitor")
    @classmethod
    def _is_monitor(cls, monitor: str) -> str:
        split, *rest = monitor.split("/")
        if split == "test":
            raise ValueError(
                "must be a figure of the val or train split: a run that is chosen by its test split "
                "cannot be judged by it"
            )
        if split not in ("train", "val") or not 1 <= len(rest) <= 2 or not all(rest):
            raise ValueError("must be SPLIT/LABEL or SPLIT/LABEL/FIGURE, such as val/loss or val/accuracy")
        return monitor


class ParameterGroup(BaseModel, defer_build=True):
    """Which parameters one of ``optimizer.groups`` holds; its other keys are settings of their optimizer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str | None = Field(None, description="Pattern of parameter names, such as conv*.weight; without it all")
    ndim: int | None = Field(
        None, ge=0, description="Number of dimensions of the parameters: 2 for matrices; without it any"
    )
    name: str | None = Field(None, description="Another optimizer for these parameters, with settings of its own")

    @model_validator(mode="after")
    def _chooses(self) -> "ParameterGroup":
        if self.match is None and self.ndim is None:
            raise ValueError("needs match, a pattern of parameter names, or ndim, their number of dimensions")
        return self


class Grouping(BaseModel, defer_build=True):
    """What the section ``optimizer`` takes beside the settings of the optimizer that it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    no_decay_on_norms_and_biases: bool = Field(
        False, description="No weight decay on parameters of one dimension, which are norms and biases"
    )
    groups: list[dict[str, Any]] = Field(
        [], description="Parameters with settings of their own, or with another optimizer"
    )


class PluginSettings(BaseModel, defer_build=True):
    """The section ``plugins``: which of the installed plugins take part; decided before any of them is imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    disable: list[str] = Field([], description="Plugins that are not used, by the name of their distribution")
    require: list[str] = Field([], description="Requirements such as ptb-acme>=1.2, without which nothing runs")


CORE_SECTIONS: dict[str, type[BaseModel]] = {
    "loader": LoaderSettings,
    "trainer": TrainerSettings,
    "plugins": PluginSettings,
}
SHARED_SECTIONS: dict[str, type[BaseModel]] = {"optimizer": Grouping}
# Settings of former versions, or that people look for: what to do instead.
INSTEAD = {
    "loader.tier": "is no setting any more: use loader.placement (resident is device, gather is host)",
    "optimizer.decay_norms_and_biases": "is no setting any more: use optimizer.no_decay_on_norms_and_biases, with the "
    "opposite value",
    "trainer.on_oom": "is no setting any more: use the callback micro-batch-on-oom",
    "trainer.fsdp": "is not there yet: each process holds the whole model; docs/explanation/scaling.md says what fits",
}
