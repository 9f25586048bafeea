"""A run's configuration as it was checked: each component found, each setting validated. Imports no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ptb.errors import ConfigError, PluginError, Problem, did_you_mean, listing
from ptb.registry import Entry, Registry
from ptb.run_config import KeyPath, RunConfig
from ptb.settings import SettingsError, arguments, plain_values, validate

COMPONENT_SECTIONS = ("dataset", "model", "initializer", "loss", "optimizer", "scheduler")
DEFAULT_NAMES = {"dataset": "digits", "initializer": "default", "optimizer": "adam", "scheduler": "cosine"}
DEFAULT_LOSSES = {"class": "cross-entropy"}
DEFAULT_METRICS = {"class": ("accuracy",)}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


class RunSettings(BaseModel):
    """The keys that stand in no section."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=2**63, description="Every random stream of the run is derived from it")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps; auto takes the first GPU, else the CPU")

    @field_validator("device")
    @classmethod
    def _is_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError("must be auto, cpu, cuda, cuda:N or mps")
        return device


class LoaderSettings(BaseModel):
    """The section ``loader``; each key means what it means in ``torch.utils.data.DataLoader``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(32, gt=0, description="Samples in a batch")
    num_workers: int = Field(0, ge=0, description="Processes that read samples; data held in memory needs none")
    shuffle: bool = Field(True, description="A new order of the training samples for each epoch")
    drop_last: bool = Field(False, description="Leave out a last training batch that is not full")


class TrainerSettings(BaseModel):
    """The section ``trainer``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(20, gt=0, description="Passes over the training samples")
    eval_every: int = Field(1, gt=0, description="Epochs from one evaluation on the validation split to the next")
    checkpoint_every: int = Field(
        0, ge=0, description="Optimizer steps from one checkpoint to the next; 0: every epoch"
    )


CORE_SECTIONS: dict[str, type[BaseModel]] = {"loader": LoaderSettings, "trainer": TrainerSettings}
KEYS = (*RunSettings.model_fields, *COMPONENT_SECTIONS, "metrics", *CORE_SECTIONS)


@dataclass(frozen=True)
class Choice:
    """A component together with its validated settings."""

    entry: Entry
    settings: BaseModel

    def build(self, *runtime: Any) -> Any:
        """Calls the target: ``target(*runtime, **settings)``."""
        return self.entry.load()(*runtime, **arguments(self.settings))

    def as_config(self) -> dict[str, Any]:
        """The section of a config file that makes this choice again."""
        return {"name": self.entry.key, **plain_values(self.settings)}


@dataclass(frozen=True)
class Plan:
    """A run that can be composed. ``loss`` and ``metrics`` are None until the data set's target kind is known."""

    run: RunSettings
    dataset: Choice
    model: Choice
    initializer: Choice
    optimizer: Choice
    scheduler: Choice
    loader: LoaderSettings
    trainer: TrainerSettings
    loss: Choice | None = None
    metrics: dict[str, Choice] | None = None

    def choices(self) -> dict[str, Choice]:
        """All chosen components by their section, metrics as ``metrics.LABEL``."""
        named = {section: getattr(self, section) for section in COMPONENT_SECTIONS}
        named |= {f"metrics.{label}": choice for label, choice in (self.metrics or {}).items()}
        return {section: choice for section, choice in named.items() if choice is not None}

    def as_config(self) -> dict[str, Any]:
        """The plan as the values of a config file; reading it gives the same plan again."""
        sections: dict[str, Any] = self.run.model_dump()
        for section in COMPONENT_SECTIONS:
            if (choice := getattr(self, section)) is not None:
                sections[section] = choice.as_config()
        if self.metrics is not None:
            sections["metrics"] = {label: choice.as_config() for label, choice in self.metrics.items()}
        return sections | {"loader": self.loader.model_dump(), "trainer": self.trainer.model_dump()}


def resolve(config: RunConfig, registry: Registry, target_kind: str | None = None) -> Plan:
    """Checks every key, name and value of ``config``.

    Args:
        config: what was asked for.
        registry: where the components are looked up.
        target_kind: what the data set predicts, once that is known: it chooses the loss and metrics that are not named.

    Raises:
        ConfigError: with all faults at once, each with its key and its source.
        PluginError: nothing is wrong with the configuration, but a plugin's settings cannot be had.
    """
    return _Resolver(config, registry, target_kind).plan()


class _Resolver:
    """Collects problems while it works through the sections, so that one run of it tells them all."""

    def __init__(self, config: RunConfig, registry: Registry, target_kind: str | None) -> None:
        self.config = config
        self.registry = registry
        self.target_kind = target_kind
        self.problems: list[Problem] = []
        self.plugin_errors: list[PluginError] = []

    def plan(self) -> Plan:
        self._check_keys()
        values = self.config.values
        parts: dict[str, Any] = {
            "run": self._settings(RunSettings, {k: values[k] for k in RunSettings.model_fields if k in values})
        }
        parts |= {name: self._settings(model, self._table(name) or {}, name) for name, model in CORE_SECTIONS.items()}
        parts |= {section: self._section(section) for section in COMPONENT_SECTIONS}
        parts["metrics"] = self._metrics()
        if self.problems:
            raise ConfigError(*self.problems)
        if self.plugin_errors:
            raise self.plugin_errors[0]
        return Plan(**parts)

    def _check_keys(self) -> None:
        for key in self.config.values:
            if key not in KEYS:
                self._problem((key,), f"unknown section or key{did_you_mean(key, KEYS)}; valid are {listing(KEYS)}")

    def _section(self, section: str) -> Choice | None:
        table = self._table(section)
        if table is None:
            return None
        name = table.get("name", self._default_name(section))
        if name is None and "name" not in table:
            if section == "model" or (section == "loss" and self.target_kind is not None):
                self._problem((section,), self._nothing_chosen(section))
            return None
        return self._choice(section, name, table, (section,))

    def _default_name(self, section: str) -> str | None:
        return DEFAULT_LOSSES.get(self.target_kind or "") if section == "loss" else DEFAULT_NAMES.get(section)

    def _nothing_chosen(self, section: str) -> str:
        entries = self.registry.components(section)
        if section == "loss":
            entries = [e for e in entries if not e.component.accepts or self.target_kind in e.component.accepts]
            return (
                f"none is the default for target kind '{self.target_kind}'; add --loss NAME, one of: {_names(entries)}"
            )
        return f"no {section} is chosen; add --{section} NAME, one of: {_names(entries)}"

    def _metrics(self) -> dict[str, Choice] | None:
        if "metrics" not in self.config.values:
            if self.target_kind is None:
                return None
            labels: Mapping[str, Any] = {name: {} for name in DEFAULT_METRICS.get(self.target_kind, ())}
        else:
            labels = self._table("metrics") or {}
        chosen = {}
        for label, table in labels.items():
            if label == "loss":
                self._problem(
                    ("metrics", label), "a metric cannot be called 'loss': the loss itself is reported under it"
                )
            elif not isinstance(table, dict):
                self._problem(("metrics", label), f"must be a table, got {table!r}; write metrics.{label}.name")
            else:
                chosen[label] = self._choice("metric", table.get("name", label), table, ("metrics", label))
        return {label: choice for label, choice in chosen.items() if choice is not None}

    def _choice(self, kind: str, name: Any, table: Mapping[str, Any], path: KeyPath) -> Choice | None:
        if not isinstance(name, str):
            self._problem((*path, "name"), f"must be the name of a {kind}, got {name!r}")
            return None
        try:
            entry = self.registry.get(kind, name)
            model = entry.settings_model()
        except ConfigError as error:
            for problem in error.problems:
                self._problem((*path, "name"), problem.message)
            return None
        except PluginError as error:
            self.plugin_errors.append(error)
            return None
        settings = self._settings(model, {key: value for key, value in table.items() if key != "name"}, *path)
        return None if settings is None else Choice(entry, settings)

    def _table(self, section: str) -> Mapping[str, Any] | None:
        table = self.config.values.get(section, {})
        if isinstance(table, dict):
            return table
        flag = {"initializer": "init", "metrics": "metric"}.get(section, section)
        instead = (
            f"--{flag} {table} or {section}.name={table}" if section not in CORE_SECTIONS else f"{section}.KEY=VALUE"
        )
        self._problem((section,), f"is a section, got {table!r}; write {instead}")
        return None

    def _settings(self, model: type[BaseModel], values: Mapping[str, Any], *path: str) -> BaseModel | None:
        try:
            return validate(model, values)
        except SettingsError as error:
            for problem in error.problems:
                field = re.split(r"[.\[]", problem.key)[0]
                key = ".".join((*path, problem.key))
                self.problems.append(Problem(key, problem.message, self.config.source(*path, field)))
            return None

    def _problem(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(".".join(path), message, self.config.source(*path)))


def _names(entries: list[Entry]) -> str:
    return listing([entry.key if entry.conflict else entry.name for entry in entries]) or "none is installed"
