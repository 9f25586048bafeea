"""What a tracker is told of a run beside its rows: name, tags, settings, and how it ended."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ptb import RunRecord
from ptb_trackers.redaction import Redaction

KILLED = "killed"
FACTS = ("epoch", "step", "best_step", "stopped_early", "test_step", "weights_sha256", "parameters", "train_seconds")


@dataclass(frozen=True)
class About:
    """What a run is, without secrets. ``parameters`` are its settings by dotted key."""

    id: str
    name: str
    tags: list[str]
    config: dict[str, Any]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``finished``, ``interrupted``, ``failed``, or ``killed`` before it could say so."""

    status: str
    facts: dict[str, Any]  # of the summary
    metrics: dict[str, float]  # the last of each, by ``SPLIT/LABEL``

    @property
    def signature(self) -> list[Any]:
        """By which it is known whether a tracker has it."""
        return [self.status, self.facts.get("step"), self.facts.get("weights_sha256")]


def describe(record: RunRecord, redaction: Redaction) -> About:
    """What ``config.toml`` and ``manifest.json`` say of a run."""
    manifest = record.manifest
    tags = manifest.get("tags")
    config = redaction.clean(record.config)
    return About(
        id=str(manifest.get("run") or record.path.name),
        name=redaction.clean(str(manifest.get("name") or record.path.resolve().name)),
        tags=redaction.clean([str(tag) for tag in tags] if isinstance(tags, list) else []),
        config=config,
        parameters=flat(config),
    )


def outcome(record: RunRecord, redaction: Redaction) -> Outcome | None:
    """What ``summary.json`` says; None where there is none."""
    summary = record.summary
    if "status" not in summary:
        return None
    metrics = summary.get("metrics")
    facts = {name: summary[name] for name in (*FACTS, "reason") if summary.get(name) is not None}
    numbers = {name: float(value) for name, value in metrics.items()} if isinstance(metrics, Mapping) else {}
    return Outcome(str(summary["status"]), redaction.clean(facts), numbers)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree by dotted key: numbers, texts and truth values; lists are JSON texts."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, str | int | float)
            leaves[f"{prefix}{key}"] = value if plain else json.dumps(value, ensure_ascii=False, default=str)
    return leaves
