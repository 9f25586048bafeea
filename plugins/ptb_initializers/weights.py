"""Which parameters an initializer fills: the one rule of all of them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
SHOWN = 4


@torch.no_grad()
def fill_weights(
    module: nn.Module, name: str, fill: Callable[[Tensor], object], *, least: int = 2, most: int | None = None
) -> None:
    """Fills the weights that an initializer fits, and sets the biases of the same layers to 0.

    Weights are parameters of two or more dimensions with ``weight`` in their own name. The row of an embedding's
    padding token becomes 0. All else is left as it is: norm layers, vectors, parameters of other names, and layers
    whose weights do not fit. A norm layer that is itself ``module`` is filled, its scale of one dimension too.

    Args:
        module: the model, or one layer.
        name: of the initializer, for the message.
        fill: changes one weight in place.
        least: dimensions that a weight must have.
        most: dimensions that it may have; None for any number.

    Raises:
        ValueError: no weight fits; the message says which do, and what the model has.
    """
    found: dict[str, Tensor] = {}
    fitting: set[Tensor] = set()
    for path, layer in module.named_modules():
        if isinstance(layer, NORMS) and layer is not module:
            continue
        weights = dict(_weights(layer))
        found |= {f"{path}.{key}".removeprefix("."): weight for key, weight in weights.items()}
        fits = [weight for weight in weights.values() if least <= weight.ndim <= (most or weight.ndim)]
        for weight in fits:
            if weight not in fitting:  # a weight that two layers share is drawn once
                fill(weight)
        fitting.update(fits)
        if fits:
            _zero(layer)
    if not fitting:
        raise ValueError(
            f"{name} fills weights of {_dimensions(least, most)}; {_told(found)}: choose another initializer"
        )


def _weights(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for key, parameter in layer.named_parameters(recurse=False):
        if "weight" in key and (parameter.ndim >= 2 or isinstance(layer, NORMS)):
            yield key, parameter


def _zero(layer: nn.Module) -> None:
    for key, parameter in layer.named_parameters(recurse=False):
        if "bias" in key:  # recurrent layers have bias_ih_l0, attention in_proj_bias
            nn.init.zeros_(parameter)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None:
        nn.init.zeros_(layer.weight[layer.padding_idx])


def _dimensions(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more dimensions" if least > 1 else "any number of dimensions"
    return f"{least} dimensions" if least == most else f"{least} to {most} dimensions"


def _told(found: dict[str, Tensor]) -> str:
    if not found:
        return "this model has no weights"
    shapes = [f"{path} {list(weight.shape)}" for path, weight in found.items()]
    more = f" and {len(shapes) - SHOWN} more" if len(shapes) > SHOWN else ""
    return f"this model has {', '.join(shapes[:SHOWN])}{more}"
