"""What a model refuses: targets and inputs of another form than it is made for."""

from collections.abc import Sequence

from ptb import DataSpec


def check_one_vector(name: str, spec: DataSpec, fields: Sequence[str] = ()) -> None:
    """For a model that gives one score vector a sample.

    Args:
        name: of the model.
        spec: of the data set.
        fields: further inputs that the model uses.

    Raises:
        ValueError: there are targets at each position, or further inputs.
    """
    if spec.positions:
        raise ValueError(
            f"{name} takes one target a sample, these are at each of {spec.positions} positions; unet takes targets at "
            "each pixel, rnn at each place of a sequence"
        )
    check_fields(name, spec, fields)


def check_fields(name: str, spec: DataSpec, fields: Sequence[str] = ()) -> None:
    """For a model that uses the main input and perhaps some others.

    Raises:
        ValueError: there are inputs that it would not use.
    """
    if unused := [field for field in spec.fields if field not in fields]:
        raise ValueError(f"{name} has no use for the further inputs {', '.join(unused)}; write a model that takes them")
