"""Another initializer for each type of layer: for the recipes that tutorials write as ``initialize_weights()``."""

from collections.abc import Callable

from torch import nn

from ptb_initializers import constants, default, kaiming, random, structured, xavier
from ptb_initializers.layer_settings import Rule, rule
from ptb_initializers.weights import NORMS

TARGETS: dict[str, Callable[..., None]] = {
    "default": default.default,
    "uniform": random.uniform,
    "normal": random.normal,
    "trunc-normal": random.trunc_normal,
    "constant": constants.constant,
    "ones": constants.ones,
    "zeros": constants.zeros,
    "eye": structured.eye,
    "dirac": structured.dirac,
    "orthogonal": structured.orthogonal,
    "sparse": structured.sparse,
    "xavier-uniform": xavier.xavier_uniform,
    "xavier-normal": xavier.xavier_normal,
    "kaiming-uniform": kaiming.kaiming_uniform,
    "kaiming-normal": kaiming.kaiming_normal,
}
LAYERS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    "linear": (nn.Linear,),
    "embedding": (nn.Embedding, nn.EmbeddingBag),
    "norm": NORMS,
}
DEFAULTS = {"conv": "kaiming-normal", "linear": "constant", "embedding": "default", "norm": "default"}


def by_layer(
    module: nn.Module,
    *,
    conv: Rule = DEFAULTS["conv"],
    linear: Rule = DEFAULTS["linear"],
    embedding: Rule = DEFAULTS["embedding"],
    norm: Rule = DEFAULTS["norm"],
) -> None:
    """Fills each layer by the initializer for its type; layers of other types are left as they are.

    An initializer is a name or a table of the name and settings, ``{"name": "normal", "std": 0.02}``. It sets the
    biases of the layers that it fills to 0; ``"default"`` leaves a layer as it is.

    The defaults are a common recipe for convolution networks. A constant for linear layers is a poor choice where one
    of them is hidden: all units of that layer stay equal for the whole training, and it can do no more than one unit.
    Choose ``"xavier-uniform"`` or ``"kaiming-normal"`` for those.

    Args:
        module: the model.
        conv: for convolutions, transposed ones too.
        linear: for linear layers.
        embedding: for embeddings and embedding bags; the row of the padding token becomes 0.
        norm: for the scales of batch, instance, group, layer and RMS norms; their shifts become 0. It must be one that
            fits one dimension: uniform, normal, trunc-normal, constant, ones or zeros.

    Raises:
        ValueError: the model has no layer of these types, or none of a type that is given another initializer than its
            default; an initializer does not fit a layer, or a name or setting is wrong.
    """
    rules = {kind: rule(value) for kind, value in zip(LAYERS, (conv, linear, embedding, norm), strict=True)}
    found: set[str] = set()
    for path, layer in module.named_modules():
        kind = next((kind for kind, types in LAYERS.items() if isinstance(layer, types)), None)
        if kind is None or next(layer.parameters(recurse=False), None) is None:  # norms may have no parameters
            continue
        found.add(kind)
        settings = dict(rules[kind])
        try:
            TARGETS[settings.pop("name")](layer, **settings)
        except ValueError as error:
            raise ValueError(f"by-layer, {kind}, layer '{path}': {error}") from error
    if not found:
        raise ValueError(f"by-layer fills layers of the types {', '.join(LAYERS)}; this model has none")
    idle = [kind for kind in LAYERS if kind not in found and rules[kind] not in (rule("default"), rule(DEFAULTS[kind]))]
    if idle:
        there = ", ".join(kind for kind in LAYERS if kind in found)
        raise ValueError(
            f"there is no {idle[0]} layer with parameters for initializer.{idle[0]} to fill, only {there}; leave it out"
        )
