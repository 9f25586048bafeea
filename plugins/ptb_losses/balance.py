"""Class weights from how often each class is seen in training."""

from ptb import DataSpec


def counts_for_balance(spec: DataSpec, setting: str) -> tuple[int, ...]:
    """The training samples of each class, every number above 0.

    Args:
        spec: of the data set.
        setting: what is to be balanced, for messages.

    Raises:
        ValueError: the data set does not count its classes, or has none of some class.
    """
    if not spec.class_counts:
        raise ValueError(
            f"{setting}='balanced' needs the training samples of each class, and this data set does not count them "
            f"(DataSpec.class_counts is empty); give {setting} in numbers"
        )
    missing = [number for number, count in enumerate(spec.class_counts) if count == 0]
    if missing:
        raise ValueError(
            f"{setting}='balanced' cannot balance what is not there: of the {len(spec.class_counts)} classes "
            f"{_listed(spec, missing)} no training samples; give {setting} in numbers, or another data set"
        )
    return spec.class_counts


def _listed(spec: DataSpec, missing: list[int]) -> str:
    names = [repr(spec.class_names[n]) if n < len(spec.class_names) else str(n) for n in missing[:5]]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"{', '.join(names)}{more} {'has' if len(missing) == 1 else 'have'}"
