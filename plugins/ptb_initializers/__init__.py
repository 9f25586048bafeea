"""The built-in initializers."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_initializers() -> Iterable[Component]:
    """Ways to fill a model's parameters before training."""
    return [
        Component(
            "default",
            "ptb_initializers.default:default",
            summary="What PyTorch's layers do by themselves",
            settings="ptb_initializers.settings:Default",
            default_for=("*",),
        ),
        Component(
            "uniform",
            "ptb_initializers.random:uniform",
            summary="Even between two bounds, the same for all layers",
            settings="ptb_initializers.settings:Uniform",
        ),
        Component(
            "normal",
            "ptb_initializers.random:normal",
            summary="Normal with a given mean and standard deviation, the same for all layers",
            settings="ptb_initializers.settings:Normal",
        ),
        Component(
            "trunc-normal",
            "ptb_initializers.random:trunc_normal",
            summary="Normal without what lies outside two bounds, the same for all layers",
            settings="ptb_initializers.settings:TruncNormal",
        ),
        Component(
            "constant",
            "ptb_initializers.constants:constant",
            summary="One value for all weights; keeps the units of hidden layers equal",
            settings="ptb_initializers.settings:Constant",
        ),
        Component(
            "ones",
            "ptb_initializers.constants:ones",
            summary="1 for all weights; keeps the units of hidden layers equal",
            settings="ptb_initializers.settings:Ones",
        ),
        Component(
            "zeros",
            "ptb_initializers.constants:zeros",
            summary="0 for all weights: for models of one layer only",
            settings="ptb_initializers.settings:Zeros",
        ),
        Component(
            "eye",
            "ptb_initializers.structured:eye",
            summary="The identity matrix: linear layers begin by passing their inputs on",
            settings="ptb_initializers.settings:Eye",
        ),
        Component(
            "dirac",
            "ptb_initializers.structured:dirac",
            summary="Convolutions begin by passing their inputs on",
            settings="ptb_initializers.settings:Dirac",
        ),
        Component(
            "orthogonal",
            "ptb_initializers.structured:orthogonal",
            summary="Random matrices that keep lengths, for deep networks (Saxe et al., 2013)",
            settings="ptb_initializers.settings:Gain",
        ),
        Component(
            "sparse",
            "ptb_initializers.structured:sparse",
            summary="Normal, with part of each input's weights 0, for linear layers (Martens, 2010)",
            settings="ptb_initializers.settings:Sparse",
        ),
        Component(
            "xavier-uniform",
            "ptb_initializers.xavier:xavier_uniform",
            summary="Even, with the variance that suits tanh and sigmoid networks (Glorot and Bengio, 2010)",
            settings="ptb_initializers.settings:Gain",
        ),
        Component(
            "xavier-normal",
            "ptb_initializers.xavier:xavier_normal",
            summary="Normal, with the variance that suits tanh and sigmoid networks (Glorot and Bengio, 2010)",
            settings="ptb_initializers.settings:Gain",
        ),
        Component(
            "kaiming-uniform",
            "ptb_initializers.kaiming:kaiming_uniform",
            summary="Even, with the variance that keeps ReLU networks from fading (He et al., 2015)",
            settings="ptb_initializers.settings:Kaiming",
        ),
        Component(
            "kaiming-normal",
            "ptb_initializers.kaiming:kaiming_normal",
            summary="Normal with the variance that keeps ReLU networks from fading (He et al., 2015)",
            settings="ptb_initializers.settings:Kaiming",
        ),
        Component(
            "by-layer",
            "ptb_initializers.by_layer:by_layer",
            summary="Another initializer for each type of layer: convolution, linear, embedding, norm",
            settings="ptb_initializers.layer_settings:ByLayer",
        ),
        Component(
            "weights-file",
            "ptb_initializers.weights_file:weights_file",
            summary="The weights in a safetensors file, to train on from them",
            settings="ptb_initializers.settings:WeightsFile",
        ),
    ]
