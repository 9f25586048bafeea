"""The settings of the built-in optimizers, with the names and defaults of ``torch.optim``.

Left out are the switches that change how PyTorch computes a step and not what it computes (``foreach``, ``fused``,
``capturable``, ``differentiable``), and ``maximize``: a loss is minimised.

The bounds are those of PyTorch or tighter, so that what it would refuse is refused here, before anything is built.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

# The product of two such numbers still has a place in 32 bits, as torch needs it to be.
LARGEST = 1e18
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
Beta = Annotated[float, Field(ge=0, lt=1)]

LearningRate = Annotated[NonNegative, Field(description="Learning rate")]
Betas = Annotated[
    tuple[Beta, Beta], Field(description="Decay of the running means of the gradient and of its square; each below 1")
]
Eps = Annotated[NonNegative, Field(description="Added to the denominator")]
WeightDecay = Annotated[NonNegative, Field(description="L2 penalty, added to the gradient")]
DecoupledWeightDecay = Annotated[
    bool, Field(description="Shrink the weights by lr * weight_decay, as adamw does, and leave the gradient alone")
]
Amsgrad = Annotated[bool, Field(description="Use the largest running mean of the square so far (Reddi et al., 2018)")]


class Settings(BaseModel, defer_build=True):
    """What all of them share: unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SGD(Settings):
    """Settings of ``sgd``; nesterov as in Sutskever et al., 2013, https://proceedings.mlr.press/v28/sutskever13.html."""

    lr: LearningRate = 1e-3
    momentum: NonNegative = Field(0.0, description="How much of the last step is kept")
    dampening: Number = Field(0.0, description="How much of the gradient is left out of the momentum")
    weight_decay: WeightDecay = 0.0
    nesterov: bool = Field(False, description="Look ahead along the momentum; needs momentum above 0 and dampening 0")

    @model_validator(mode="after")
    def _check_nesterov(self) -> "SGD":
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs momentum above 0 and dampening 0")
        if self.momentum == 0 and self.dampening != 0:
            raise ValueError("dampening belongs to momentum above 0: set momentum, or leave it out")
        return self


class ASGD(Settings):
    """Settings of ``asgd`` (Polyak and Juditsky, 1992, https://doi.org/10.1137/0330046)."""

    lr: LearningRate = 1e-2
    lambd: NonNegative = Field(1e-4, description="Decay of the weights and, with alpha, of the learning rate")
    alpha: float = Field(0.75, ge=0, le=4, description="Step t, from 0, uses lr / (1 + lambd * lr * t) ** alpha")
    t0: NonNegative = Field(
        1e6,
        description="The step from which the weights are averaged, in the optimizer's state alone",
    )
    weight_decay: WeightDecay = 0.0


class Rprop(Settings):
    """Settings of ``rprop`` (Riedmiller and Braun, 1993, https://doi.org/10.1109/ICNN.1993.298623)."""

    lr: NonNegative = Field(1e-2, description="The size of the first step; a scheduler has no effect after it")
    etas: tuple[Number, Number] = Field(
        (0.5, 1.2), description="A weight's step shrinks by the first when its gradient turns, else grows by the second"
    )
    step_sizes: tuple[Positive, Positive] = Field((1e-6, 50.0), description="The smallest and the largest step")

    @field_validator("etas")
    @classmethod
    def _check_etas(cls, etas: tuple[float, float]) -> tuple[float, float]:
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError("must be one number between 0 and 1 and one above 1")
        return etas

    @field_validator("step_sizes")
    @classmethod
    def _check_step_sizes(cls, sizes: tuple[float, float]) -> tuple[float, float]:
        if sizes[0] > sizes[1]:
            raise ValueError("must be the smallest step and then the largest")
        return sizes


class LBFGS(Settings):
    """Settings of ``lbfgs`` (Liu and Nocedal, 1989, https://doi.org/10.1007/BF01589116)."""

    lr: LearningRate = 1.0
    max_iter: int = Field(20, ge=1, description="Iterations in one step")
    max_eval: int | None = Field(
        None, ge=1, description="Evaluations of the loss in one step; none: 5/4 of max_iter, rounded down"
    )
    tolerance_grad: NonNegative = Field(1e-7, description="A step ends when no gradient is larger")
    tolerance_change: NonNegative = Field(1e-9, description="A step ends when weights or loss change by less")
    history_size: int = Field(100, ge=1, description="Past updates that are kept; each takes the memory of the weights")
    line_search_fn: Literal["strong_wolfe"] | None = Field(
        None, description="How the length of an iteration is found; none: it is lr"
    )


class Adagrad(Settings):
    """Settings of ``adagrad`` (Duchi et al., 2011, https://jmlr.org/papers/v12/duchi11a.html)."""

    lr: LearningRate = 1e-2
    lr_decay: NonNegative = Field(0.0, description="Step t, from 0, uses lr / (1 + t * lr_decay)")
    weight_decay: WeightDecay = 0.0
    initial_accumulator_value: NonNegative = Field(0.0, description="Where the sums of squared gradients begin")
    eps: Eps = 1e-10


class Adadelta(Settings):
    """Settings of ``adadelta`` (Zeiler, 2012, arXiv:1212.5701)."""

    lr: LearningRate = 1.0
    rho: float = Field(0.9, ge=0, le=1, description="Decay of the running means of squared gradients and squared steps")
    eps: NonNegative = Field(1e-6, description="Added under both square roots; it sets the size of the first steps")
    weight_decay: WeightDecay = 0.0


class RMSprop(Settings):
    """Settings of ``rmsprop`` (Hinton, 2012, lecture 6e of https://www.cs.toronto.edu/~tijmen/csc321/)."""

    lr: LearningRate = 1e-2
    alpha: float = Field(0.99, ge=0, lt=1, description="Decay of the running mean of the square")
    eps: Eps = 1e-8
    weight_decay: WeightDecay = 0.0
    momentum: NonNegative = Field(0.0, description="How much of the last step is kept")
    centered: bool = Field(
        False, description="Divide by the running standard deviation (Graves, 2013, arXiv:1308.0850), not the root"
    )


class Adam(Settings):
    """Settings of ``adam`` (Kingma and Ba, 2014, arXiv:1412.6980)."""

    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: WeightDecay = 0.0
    amsgrad: Amsgrad = False
    decoupled_weight_decay: DecoupledWeightDecay = False


class AdamW(Settings):
    """Settings of ``adamw`` (Loshchilov and Hutter, 2017, arXiv:1711.05101)."""

    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: NonNegative = Field(1e-2, description="Each step shrinks the weights by lr times this")
    amsgrad: Amsgrad = False


class Adamax(Settings):
    """Settings of ``adamax`` (Kingma and Ba, 2014, arXiv:1412.6980, section 7.1)."""

    lr: LearningRate = 2e-3
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.999), description="Decay of the running mean and of the running maximum of the gradient; each below 1"
    )
    eps: NonNegative = Field(1e-8, description="Added to the gradient's size before the maximum is taken")
    weight_decay: WeightDecay = 0.0


class NAdam(Settings):
    """Settings of ``nadam`` (Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ)."""

    lr: LearningRate = 2e-3
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: WeightDecay = 0.0
    momentum_decay: NonNegative = Field(4e-3, description="How fast the momentum nears betas[0]; 0: half of it, always")
    decoupled_weight_decay: DecoupledWeightDecay = False


class RAdam(Settings):
    """Settings of ``radam`` (Liu et al., 2019, arXiv:1908.03265)."""

    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    weight_decay: WeightDecay = 0.0
    decoupled_weight_decay: DecoupledWeightDecay = False


class SparseAdam(Settings):
    """Settings of ``sparse-adam``: Adam on the rows of a sparse gradient, the others stay as they are."""

    lr: Positive = Field(1e-3, description="Learning rate")
    betas: Betas = (0.9, 0.999)
    eps: Positive = Field(1e-8, description="Added to the denominator")


def _pair(value: Any) -> Any:
    """One number as the second of two, a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (None, value)


# TOML has no null, which torch's default begins with: one number stands for such a pair.
AdafactorEps = Annotated[
    tuple[NonNegative | None, NonNegative],
    BeforeValidator(_pair, json_schema_input_type=NonNegative | tuple[NonNegative, NonNegative]),
    PlainSerializer(lambda eps: eps[1] if eps[0] is None else eps),
]


class Adafactor(Settings):
    """Settings of ``adafactor`` (Shazeer and Stern, 2018, arXiv:1804.04235)."""

    lr: NonNegative = Field(1e-2, description="Step t is at most min(lr, 1 / sqrt(t)) times the size of the weights")
    beta2_decay: float = Field(
        -0.8, ge=-LARGEST, le=0, description="Step t counts t ** beta2_decay in the running mean of the square"
    )
    eps: AdafactorEps = Field(
        (None, 1e-3),
        description="Least size of weights; or two numbers: of gradients (else the rounding error of their type), then "
        "of weights",
        json_schema_extra={"default": 1e-3},
    )
    d: float = Field(
        1.0, ge=1, le=LARGEST, description="Updates whose root mean square is above it are scaled down to it"
    )
    weight_decay: NonNegative = Field(0.0, description="Each step shrinks the weights by lr times this")
