"""The settings of the built-in models."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid"]
# More values than memory has are told as such: their number still has a place in 64 bits.
Units = Annotated[int, Field(gt=0, le=10_000_000)]
Channels = Annotated[int, Field(gt=0, le=100_000)]
Side = Annotated[int, Field(gt=0, le=4096)]
Padding = Annotated[int, Field(ge=0, le=4096)]
ResNetDepth = Literal[18, 20, 32, 34, 44, 50, 56, 101, 110, 152]


class Linear(BaseModel, defer_build=True):
    """``linear`` has no settings."""


class MLP(BaseModel, defer_build=True):
    """Settings of ``mlp``."""

    hidden: list[Units] = Field([256], description="Sizes of the hidden layers; [] makes it linear")
    activation: Activation = Field("relu", description="Function between the layers")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Part of each hidden layer's outputs that training sets to 0; 0 adds no layer"
    )

    @model_validator(mode="after")
    def _check_hidden(self) -> "MLP":
        if not self.hidden and (self.dropout or self.activation != "relu"):
            raise ValueError("hidden = [] leaves no layer for activation or dropout: give hidden sizes or drop these")
        return self


class LeNet(BaseModel, defer_build=True):
    """Settings of ``lenet``."""

    pool: Literal["max", "avg"] = Field("max", description="How the 2x2 windows are pooled")
    activation: Activation = Field("relu", description="Function after each layer but the last")


class CNN(BaseModel, defer_build=True):
    """Settings of ``cnn``."""

    channels: list[Channels] = Field(
        [16, 32, 64], min_length=1, description="Output channels of the convolutions, one for each block"
    )
    kernel_size: Side | tuple[Side, Side] = Field(
        3, description="Size of the convolutions' windows, one number or [height, width]"
    )
    stride: Side | tuple[Side, Side] = Field(1, description="Step of the convolutions, one number or [height, width]")
    padding: Padding | tuple[Padding, Padding] | Literal["same"] = Field(
        "same",
        description="Zeros put around the pictures before a convolution, one number or [height, width]; "
        "same keeps the size and needs stride 1",
    )
    pool: Literal["max", "avg", "none"] = Field("max", description="How windows are pooled at the end of a block")
    pool_size: Side | tuple[Side, Side] = Field(
        2, description="Size and step of these windows, one number or [height, width]"
    )
    batch_norm: bool = Field(True, description="Normalise each channel over the batch after each convolution")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Part of the last features that training sets to 0; 0 adds no layer"
    )
    activation: Activation = Field("relu", description="Function after each convolution")

    @model_validator(mode="after")
    def _check_blocks(self) -> "CNN":
        if self.padding == "same" and self.stride not in (1, (1, 1)):
            raise ValueError(f"padding same needs stride 1, stride is {self.stride}: give padding as a number")
        if self.pool == "none" and self.pool_size != 2:
            raise ValueError("pool none has no use for pool_size: choose pool max or avg, or drop pool_size")
        return self


class EmbeddingBag(BaseModel, defer_build=True):
    """Settings of ``embedding-bag``."""

    embedding_dim: Channels = Field(64, description="Size of each token's vector")
    mode: Literal["mean", "sum", "max"] = Field("mean", description="How the vectors of a sample's tokens are reduced")
    sparse: bool = Field(
        False,
        description="Sparse gradients, as the optimizer sparse-adam takes: the model is then one table of a vector of "
        "output_size for each token, without a linear layer, embedding_dim and bias; not with mode max",
    )

    @model_validator(mode="after")
    def _check_sparse(self) -> "EmbeddingBag":
        if self.sparse and self.mode == "max":
            raise ValueError("sparse gradients do not go with mode max: choose mode mean or sum")
        if self.sparse and self.embedding_dim != 64:
            raise ValueError(
                "sparse has no use for embedding_dim, its vectors have output_size values: drop one of them"
            )
        return self


class ResNet(BaseModel, defer_build=True):
    """Settings of ``resnet``."""

    depth: ResNetDepth = Field(
        20,
        description="Layers with weights: 20, 32, 44, 56, 110 for small pictures, 18, 34, 50, 101, 152 for large",
    )


class RNN(BaseModel, defer_build=True):
    """Settings of ``rnn``."""

    cell: Literal["lstm", "gru"] = Field("lstm", description="What a layer is made of")
    hidden: Channels = Field(128, description="Size of a layer's state")
    layers: int = Field(1, ge=1, le=100, description="How many layers lie on each other")
    bidirectional: bool = Field(False, description="Read in both directions, each with a state of its own")
    dropout: float = Field(0.0, ge=0, lt=1, description="Part of each layer's outputs that training sets to 0")
    embedding_dim: Channels = Field(64, description="Size of each token's vector; other inputs are vectors already")


class UNet(BaseModel, defer_build=True):
    """Settings of ``unet``."""

    depth: int = Field(4, ge=1, le=8, description="How often the sides of the pictures are halved")
    width: int = Field(
        16,
        ge=1,
        le=1024,
        description="Channels at the first level, 64 in the paper; each level below has twice as many",
    )
    batch_norm: bool = Field(True, description="Normalise each channel over the batch after each convolution")
