"""The settings of the trackers."""

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Folder = Annotated[str, AfterValidator(lambda path: os.path.abspath(os.path.expanduser(path)) if path else "")]
FLUSH_SECONDS = Field(
    5.0, ge=0, le=3600, description="How long the end of a run waits, at most, until all is sent; `ptb sync` sends more"
)


class TensorBoard(BaseModel, defer_build=True):
    """Settings of ``tensorboard``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    logdir: Folder = Field(
        "", description="Folder in which the run gets a folder; without it the event files are in RUN/tensorboard"
    )
    flush_seconds: float = FLUSH_SECONDS


class Mlflow(BaseModel, defer_build=True):
    """Settings of ``mlflow``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str = Field(
        "", description="Server or store, such as http://localhost:5000; without it that in MLFLOW_TRACKING_URI"
    )
    experiment: str = Field("ptb", min_length=1, description="Experiment in which the run is; made if there is none")
    flush_seconds: float = FLUSH_SECONDS


class Wandb(BaseModel, defer_build=True):
    """Settings of ``wandb``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = Field("ptb", min_length=1, description="Project in which the run is; made if there is none")
    entity: str = Field("", description="User or team that owns the project; without it that of the login")
    mode: Literal["auto", "online", "offline"] = Field(
        "auto", description="offline writes files for `wandb sync`; auto is what WANDB_MODE says, else online"
    )
    flush_seconds: float = FLUSH_SECONDS


TRACKERS: dict[str, type[BaseModel]] = {"tensorboard": TensorBoard, "mlflow": Mlflow, "wandb": Wandb}
