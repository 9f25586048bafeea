"""Samples of the data set of a run, read anew: for plots of what a run was trained on."""

from collections.abc import Iterator
from typing import Any

from ptb import ConfigError, DataBundle, Preprocessor, RunConfig, RunRecord, load_registry


def bundle_of(record: RunRecord) -> DataBundle:
    """The data set of a run, built as the run built it.

    Raises:
        PtbError: it cannot be built, for example because its files are gone.
    """
    bundle = _built(record, "dataset")
    assert isinstance(bundle, DataBundle)
    return bundle


def model_of(record: RunRecord, bundle: DataBundle) -> Any:
    """The model of a run in eval mode, with its best weights, else the last ones.

    Raises:
        PtbError: it cannot be built, or there is no checkpoint.
    """
    import torch
    from safetensors.torch import load_file

    from ptb import checkpoint_path

    with torch.random.fork_rng():  # what it draws for its first weights is nobody's business
        model = _built(record, "model", bundle.spec)
    saved = load_file(checkpoint_path(record.path))
    model.load_state_dict({name[6:]: each for name, each in saved.items() if name.startswith("model.")})
    return model.eval()


def _built(record: RunRecord, section: str, *runtime: Any) -> Any:
    """The component of a section of the configuration."""
    values = dict(RunConfig.read([record.path / "config.toml"]).values[section])
    entry = load_registry().get(section, values.pop("name"))
    settings = entry.settings_model().model_validate(values)
    return entry.load()(*runtime, **{name: getattr(settings, name) for name in type(settings).model_fields})


def spread(samples: Any, most: int) -> Iterator[tuple[int, Any]]:
    """At most so many samples, evenly spread over a split, with their numbers.

    Raises:
        ConfigError: it is a stream, whose samples have no numbers.
    """
    if not hasattr(samples, "__getitem__"):
        raise ConfigError("the data set is a stream, of which no samples can be picked")
    size = len(samples)
    for number in sorted({place * size // min(most, size) for place in range(min(most, size))}):
        yield number, samples[number]


def rows_of(record: RunRecord, most: int) -> list[dict[str, Any]]:
    """Rows of the training split as people read them, in the units of the table.

    Raises:
        ConfigError: its samples are no rows.
    """
    bundle = bundle_of(record)
    preprocessor = bundle.preprocessor or Preprocessor()
    preprocessor.spec = bundle.spec
    shown = [preprocessor.show(sample[0]) for _, sample in spread(bundle.train, most)]
    if not shown or not isinstance(shown[0], dict):
        raise ConfigError(
            f"{record.path} was trained on samples that are no rows of a table; `ptb list plot` has others"
        )
    return shown
