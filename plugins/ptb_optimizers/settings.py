"""The settings of the built-in optimizers, with the names and defaults of ``torch.optim``."""

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

Beta = Annotated[float, Field(ge=0, lt=1)]


class Adam(BaseModel):
    """Settings of ``adam`` (Kingma and Ba, 2014, arXiv:1412.6980)."""

    lr: float = Field(1e-3, ge=0, description="Learning rate")
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.999), description="Decay of the running means of the gradient and of its square"
    )
    eps: float = Field(1e-8, ge=0, description="Added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")
    amsgrad: bool = Field(False, description="Use the largest running mean of the square so far (Reddi et al., 2018)")


class SGD(BaseModel):
    """Settings of ``sgd``."""

    lr: float = Field(1e-3, ge=0, description="Learning rate")
    momentum: float = Field(0.0, ge=0, description="How much of the last step is kept")
    dampening: float = Field(0.0, description="How much of the gradient is left out of the momentum")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")
    nesterov: bool = Field(False, description="Look ahead along the momentum; needs momentum above 0 and dampening 0")

    @model_validator(mode="after")
    def _check_nesterov(self) -> "SGD":
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs momentum above 0 and dampening 0")
        return self
