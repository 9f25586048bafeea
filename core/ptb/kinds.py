"""The kinds of components, and the words that specs and components share.

An added kind is one row of this table and one hook in ``registry/hookspecs.py``; nothing else lists the kinds.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of component."""

    name: str
    hook: str  # by which plugins provide it
    section: str = ""  # of the configuration, in which a run chooses it; empty where none does
    flag: str = ""  # of the command line, without its dashes
    runtime: tuple[str, ...] = ()  # what the core passes by position before the settings
    labelled: bool = False  # the section is a table of labels, each of which chooses one


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("dataset", "ptb_provide_datasets", "dataset", "dataset"),
        Kind("model", "ptb_provide_models", "model", "model", ("spec",)),
        Kind("initializer", "ptb_provide_initializers", "initializer", "init", ("module",)),
        Kind("loss", "ptb_provide_losses", "loss", "loss", ("spec",)),
        Kind("optimizer", "ptb_provide_optimizers", "optimizer", "optimizer", ("params",)),
        Kind("scheduler", "ptb_provide_schedulers", "scheduler", "scheduler", ("optimizer", "total_steps")),
        Kind("metric", "ptb_provide_metrics", "metrics", "metric", ("spec",), labelled=True),
        Kind("callback", "ptb_provide_callbacks", "callbacks", "callback", labelled=True),
        Kind("plot", "ptb_provide_plots", runtime=("records",)),
    )
}
RUN_KINDS = {name: kind for name, kind in KINDS.items() if kind.section}  # those of which a run is composed

INPUT_KINDS = ("image", "vector", "tokens", "array")
TARGET_KINDS = ("class", "binary", "multilabel", "real", "distribution", "similarity", "none")
# What a component accepts or is the default for: a class at each pixel or token is another task than one a sample.
TARGET_FORMS = (*TARGET_KINDS, "class+positions")
# What optimizers ask of a training, and plots of a run.
NEEDS = {
    "optimizer": ("closure", "sparse-gradients", "named-parameters", "model", "create-graph"),
    "plot": ("history", "predictions", "samples", "weights", "several-runs"),
}
ROLES = ("observer", "actor")  # of callbacks: one that only looks, and one that changes training
