"""The built-in models."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_models() -> Iterable[Component]:
    """Networks that adapt to the data set's spec."""
    return [
        Component(
            "linear",
            "ptb_models.linear:Linear",
            summary="One linear layer on the flattened inputs: the baseline for pictures and vectors",
            settings="ptb_models.settings:Linear",
        ),
        Component(
            "mlp",
            "ptb_models.mlp:MLP",
            summary="Linear layers with an activation between them, for inputs of any shape",
            settings="ptb_models.settings:MLP",
        ),
        Component(
            "lenet",
            "ptb_models.lenet:LeNet",
            summary="Two convolutions and three linear layers, the classic for small pictures",
            settings="ptb_models.settings:LeNet",
        ),
        Component(
            "cnn",
            "ptb_models.cnn:CNN",
            summary="Blocks of convolution and pooling for pictures of any size, each part adjustable",
            settings="ptb_models.settings:CNN",
        ),
        Component(
            "embedding-bag",
            "ptb_models.embedding_bag:EmbeddingBag",
            summary="Mean, sum or maximum of token vectors: the baseline for texts, with sparse gradients if wanted",
            settings="ptb_models.settings:EmbeddingBag",
        ),
        Component(
            "resnet",
            "ptb_models.resnet:ResNet",
            summary="Residual network of 18 to 152 layers, in the form for 32x32 pixels or for 224x224",
            settings="ptb_models.settings:ResNet",
        ),
        Component(
            "rnn",
            "ptb_models.rnn:RNN",
            summary="LSTM or GRU over tokens or vectors, one score vector a sequence or at each place of it",
            settings="ptb_models.settings:RNN",
        ),
        Component(
            "unet",
            "ptb_models.unet:UNet",
            summary="Scores at each pixel of pictures of any size: segmentation and the like",
            settings="ptb_models.settings:UNet",
        ),
    ]
