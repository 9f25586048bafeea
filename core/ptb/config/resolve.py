"""A run's configuration as it was checked: each component found, each setting validated. Imports no torch."""

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from ptb.config.layers import FLAGS, LONGEST_KEY, KeyPath, RunConfig
from ptb.config.sections import (
    CORE_SECTIONS,
    SHARED_SECTIONS,
    Grouping,
    LoaderSettings,
    PluginSettings,
    RunSettings,
    TrainerSettings,
)
from ptb.errors import ConfigError, PluginError, Problem, closest, did_you_mean, listing, tidy
from ptb.kinds import KINDS
from ptb.registry.messages import MOST_FAULTS
from ptb.registry.registry import RegisteredComponent, Registry
from ptb.registry.selection import PluginRequest, Selection
from ptb.registry.settings import SettingsError, arguments, plain_values, validate

COMPONENT_SECTIONS = ("dataset", "model", "initializer", "loss", "optimizer", "scheduler")
DEFAULT_NAMES = {"dataset": "digits", "initializer": "default", "optimizer": "adam", "scheduler": "cosine"}
DEFAULT_LOSSES = {
    "class": "cross-entropy",
    "binary": "bce-with-logits",
    "real": "mse",
    "distribution": "kl-div",
    "similarity": "cosine-embedding",
}
DEFAULT_METRICS = {"class": ("accuracy",), "binary": ("accuracy",), "real": ("mae", "rmse")}

MOST_COMPARED = 10_000  # pairs of keys: a file of a thousand wrong keys is to be told within a second
LIKELY = 0.75  # an unknown key so near to another one is a slip of that
CHOOSING = {(section,) for section in (*COMPONENT_SECTIONS, "metrics")}  # a key ``name`` in them chooses the component
KEYS = (*RunSettings.model_fields, *COMPONENT_SECTIONS, "metrics", *CORE_SECTIONS, "plugins", "resolve")


@dataclass(frozen=True)
class ComponentConfig:
    """A component with its validated settings; ``shared`` are those of its section that the core looks after."""

    entry: RegisteredComponent
    settings: BaseModel
    shared: BaseModel | None = None

    def build(self, *runtime: Any, **switches: Any) -> Any:
        """Calls ``target(*runtime, **settings, **switches)``; a switch changes how the target computes, not what."""
        return self.entry.load()(*runtime, **arguments(self.settings), **switches)

    def as_config(self) -> dict[str, Any]:
        """The section of a config file that makes this choice again."""
        shared = {} if self.shared is None else plain_values(self.shared)
        return {"name": self.entry.key, **plain_values(self.settings), **shared}


@dataclass(frozen=True)
class ResolvedConfig:
    """A run that can be composed. ``loss`` and ``metrics`` are None until the data set's target kind is known."""

    run: RunSettings
    dataset: ComponentConfig
    model: ComponentConfig
    initializer: ComponentConfig
    optimizer: ComponentConfig
    scheduler: ComponentConfig
    loader: LoaderSettings
    trainer: TrainerSettings
    plugins: PluginSettings
    loss: ComponentConfig | None = None
    metrics: dict[str, ComponentConfig] | None = None

    def choices(self) -> dict[str, ComponentConfig]:
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
        sections |= {
            "loader": self.loader.model_dump(exclude_none=True),
            "trainer": self.trainer.model_dump(exclude_none=True),
        }
        plugins = self.plugins.model_dump(exclude_defaults=True)
        return sections | ({"plugins": plugins} if plugins else {})


def selection(config: RunConfig) -> Selection:
    """What the section ``plugins`` asks for.

    Raises:
        ConfigError: it is not as ``PluginSettings`` says.
    """
    table = config.values.get("plugins", {})
    if not isinstance(table, dict):
        message = f"is a section, got {reprlib.repr(table)}; write plugins.disable=['ptb-acme']"
        raise ConfigError(Problem("plugins", message, config.source("plugins")))
    try:
        wanted = validate(PluginSettings, table)
    except SettingsError as error:
        places = [(p, re.split(r"[.\[]", p.key)[0]) for p in error.problems]
        raise ConfigError(
            *(Problem(f"plugins.{p.key}", p.message, config.source("plugins", field)) for p, field in places)
        ) from None
    disable, require = (
        tuple(PluginRequest(text, config.source("plugins", key)) for text in getattr(wanted, key))
        for key in ("disable", "require")
    )
    return Selection(disable=disable, require=require)


def resolve(config: RunConfig, registry: Registry, target_kind: str | None = None) -> ResolvedConfig:
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


def closure_faults(optimizer: str, trainer: TrainerSettings) -> dict[str, str]:
    """Messages, by keys of ``trainer``, about what an optimizer that needs a closure cannot do."""
    why = f"'{optimizer}' evaluates the loss several times a step"
    faults = {}
    if trainer.accumulate > 1:
        faults["accumulate"] = f"must be 1, got {trainer.accumulate}: {why}"
    if trainer.precision == "fp16":
        faults["precision"] = f"must be fp32 or bf16, got fp16: {why}, which no loss scaler allows"
    return faults


class _Resolver:
    """Collects problems while it works through the sections, so that one run of it tells them all."""

    def __init__(self, config: RunConfig, registry: Registry, target_kind: str | None) -> None:
        self.config = config
        self.registry = registry
        self.target_kind = target_kind
        self.problems: list[Problem] = []
        self.plugin_errors: list[PluginError] = []
        self.unsettled: set[tuple[str, str]] = set()
        self.fields: dict[KeyPath, list[str]] = {}  # of each section, as far as its component is known
        self.strangers: list[tuple[int, KeyPath, str]] = []  # problems that are unknown keys, with section and key

    def plan(self) -> ResolvedConfig:
        self._check_keys()
        self._check_resolve()
        values = self.config.values
        parts: dict[str, Any] = {
            "run": self._settings(RunSettings, {k: values[k] for k in RunSettings.model_fields if k in values})
        }
        parts |= {name: self._settings(model, self._table(name) or {}, name) for name, model in CORE_SECTIONS.items()}
        parts |= {section: self._section(section) for section in COMPONENT_SECTIONS}
        parts["metrics"] = self._metrics()
        parts["plugins"] = self._settings(PluginSettings, self._table("plugins") or {}, "plugins")
        if not self.problems:
            self._check_together(**parts)
        if self.problems:
            self._place_strangers()
            raise ConfigError(*self.problems)
        if self.plugin_errors:
            raise self.plugin_errors[0]
        return ResolvedConfig(**parts)

    def _check_keys(self) -> None:
        for key in self.config.values:
            if key not in KEYS:
                self.strangers.append((len(self.problems), (), key))
                self._problem((key,), f"unknown section or key{did_you_mean(key, KEYS)}; valid are {listing(KEYS)}")

    def _place_strangers(self) -> None:
        """Names the right section of each unknown key that is a key elsewhere: ``lr`` is ``optimizer.lr``."""
        places = {flag: ".".join(path) for flag, path in FLAGS.items()}
        for section, fields in self.fields.items():
            for field in fields:
                place = ".".join((*section, field))
                places |= {place: place, field: places.get(field, place)}
        for number, section, key in self.strangers[: MOST_COMPARED // len(places)]:
            own = self.fields.get(section, []) if section else KEYS
            known = places | ({"name": ".".join((*section, "name"))} if section[:1] in CHOOSING else {})
            if meant := _slip(key, own, known):
                place = known[meant]
                holder, _, field = place.rpartition(".")
                told = f"'{place}'" if section or place != key else f"'{field}' in the section '{holder}'"
                what, _, valid = self.problems[number].message.partition(";")
                message = f"{what.partition(' (')[0]} (did you mean {told}?);{valid}"
                self.problems[number] = replace(self.problems[number], message=message)

    def _check_resolve(self) -> None:
        """``[resolve] model.lenet = "ptb-acme:lenet"`` settles whose ``lenet`` the short name is."""
        for kind, names in (self._table("resolve") or {}).items():
            if kind not in KINDS or not isinstance(names, dict):
                message = f'must be KIND.NAME = "DISTRIBUTION:NAME", with a kind of {", ".join(KINDS)}'
                self._problem(("resolve", kind), message)
                continue
            for name, owner in names.items():
                try:
                    if not isinstance(owner, str) or ":" not in owner:
                        raise ConfigError(f"must be the full id DISTRIBUTION:NAME, got {owner!r}")
                    component = self.registry.get(kind, owner).component
                    if name not in (component.name, *component.aliases):
                        raise ConfigError(f"'{owner}' is not called '{name}'")
                except ConfigError as error:
                    self.unsettled.add((kind, name))
                    for problem in error.problems:
                        self._problem(("resolve", kind, name), problem.message)

    def _settled(self, kind: str, name: str) -> str:
        """The id that ``resolve`` gives to a short name, or the name as it is."""
        resolve = self.config.values.get("resolve")
        names = resolve.get(kind) if isinstance(resolve, dict) else None
        owner = names.get(name) if isinstance(names, dict) else None
        return owner if isinstance(owner, str) else name

    def _check_together(self, optimizer: ComponentConfig | None, trainer: TrainerSettings, **_: Any) -> None:
        """What each key allows and both together do not."""
        if optimizer is None:
            return
        if "closure" in optimizer.entry.component.needs:
            for key, message in closure_faults(optimizer.entry.name, trainer).items():
                self._problem(("trainer", key), message)
        grouping = optimizer.shared
        assert isinstance(grouping, Grouping)
        source = self.config.source("optimizer", "groups")
        decays = [getattr(optimizer.settings, "weight_decay", 0)]
        common = plain_values(optimizer.settings) if grouping.groups else {}
        for number, group in enumerate(grouping.groups):
            decays.append(group.weight_decay)
            if len(self.problems) > MOST_FAULTS:  # nobody reads on
                continue
            own = group.model_dump(exclude={"match"}, exclude_none=True)
            try:
                validate(type(optimizer.settings), common | own)
            except SettingsError as error:
                told = [problem for problem in error.problems if problem.key in own]
                self.problems += [Problem(f"optimizer.groups[{number}].{p.key}", p.message, source) for p in told]
        if not grouping.decay_norms_and_biases and "weight_decay" not in type(optimizer.settings).model_fields:
            message = f"must be true: optimizer '{optimizer.entry.name}' has no weight_decay"
            self._problem(("optimizer", "decay_norms_and_biases"), message)
        elif not any(decays):
            idle = {
                "decay_norms_and_biases": not grouping.decay_norms_and_biases,
                "decoupled_weight_decay": getattr(optimizer.settings, "decoupled_weight_decay", False),
            }
            for key in (key for key, asked in idle.items() if asked):
                message = "has no effect, because optimizer.weight_decay is 0; set that, or leave this out"
                self._problem(("optimizer", key), message)

    def _section(self, section: str) -> ComponentConfig | None:
        table = self._table(section)
        if table is None:
            return None
        name = table.get("name", self._default_name(section))
        if name is None and "name" not in table:
            if section == "model":
                known = listing([e.key if e.conflict else e.name for e in self.registry.components("model")])
                slips = [key for key in table if closest(key, ("name",), LIKELY)]
                meant = f" (did you mean 'name' by '{slips[0]}'?)" if slips else ""
                self._problem(
                    ("model",), f"no model is chosen{meant}; add --model NAME, one of: {known or 'none is installed'}"
                )
            return None
        return self._choice(section, name, table, (section,))

    def _default_name(self, section: str) -> str | None:
        return DEFAULT_LOSSES.get(self.target_kind or "") if section == "loss" else DEFAULT_NAMES.get(section)

    def _metrics(self) -> dict[str, ComponentConfig] | None:
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
            elif not label.strip() or not label.isprintable():
                self._problem(("metrics", label), "a metric needs a label that can be read")
            elif not isinstance(table, dict):
                self._problem(
                    ("metrics", label), f"must be a table, got {reprlib.repr(table)}; write metrics.{label}.name"
                )
            else:
                chosen[label] = self._choice("metric", table.get("name", label), table, ("metrics", label))
        return {label: choice for label, choice in chosen.items() if choice is not None}

    def _choice(self, kind: str, name: Any, table: Mapping[str, Any], path: KeyPath) -> ComponentConfig | None:
        if not isinstance(name, str) or len(name) > LONGEST_KEY:
            self._problem((*path, "name"), f"must be the name of a {kind}, got {reprlib.repr(name)}")
            return None
        if (kind, name) in self.unsettled:  # told where it is settled
            return None
        try:
            entry = self.registry.get(kind, self._settled(kind, name))
            entry.check_dependencies()
            model = entry.settings_model()
        except ConfigError as error:
            for problem in error.problems:
                self._problem((*path, "name"), problem.message)
            return None
        except PluginError as error:
            self.plugin_errors.append(error)
            return None
        of_core = SHARED_SECTIONS.get(kind)
        both = set(of_core.model_fields) & set(model.model_fields) if of_core else ()
        if both:
            self.plugin_errors.append(PluginError(f"{entry}: a setting cannot be called {listing(sorted(both))}"))
            return None
        shared_keys = of_core.model_fields if of_core else {}
        own = {key: value for key, value in table.items() if key != "name" and key not in shared_keys}
        settings = self._settings(model, own, *path, also=tuple(shared_keys))
        if of_core is None:
            return None if settings is None else ComponentConfig(entry, settings)
        shared = self._settings(of_core, {key: value for key, value in table.items() if key in shared_keys}, *path)
        return None if settings is None or shared is None else ComponentConfig(entry, settings, shared)

    def _table(self, section: str) -> Mapping[str, Any] | None:
        table = self.config.values.get(section, {})
        if isinstance(table, dict):
            return table
        if table is None:
            self._problem((section,), "null is no value in a config file; leave it out")
            return None
        flag = {"initializer": "init", "metrics": "metric"}.get(section, section)
        plain = section in CORE_SECTIONS or section in ("plugins", "resolve")
        name = tidy(str(table), 40)
        instead = f"{section}.KEY=VALUE" if plain else f"--{flag} {name} or {section}.name={name}"
        self._problem((section,), f"is a section, got {reprlib.repr(table)}; write {instead}")
        return None

    def _settings(
        self, model: type[BaseModel], values: Mapping[str, Any], *path: str, also: Sequence[str] = ()
    ) -> BaseModel | None:
        fields = self.fields.setdefault(path, [])
        fields += model.model_fields
        try:
            return validate(model, values, also)
        except SettingsError as error:
            for problem in error.problems:
                field = re.split(r"[.\[]", problem.key)[0]
                if problem.key in values and problem.key not in (*model.model_fields, *also):
                    self.strangers.append((len(self.problems), path, problem.key))
                key = ".".join(filter(None, (*path, problem.key)))
                self.problems.append(Problem(key, problem.message, self.config.source(*filter(None, (*path, field)))))
            return None

    def _problem(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(".".join(path), message, self.config.source(*path)))


def _slip(key: str, own: Iterable[str], elsewhere: Iterable[str]) -> str | None:
    """The one of ``elsewhere`` that was meant by an unknown key; None where one of its ``own`` section is nearer."""
    for cutoff in (1, LIKELY):
        if closest(key, own, cutoff):
            return None
        if meant := closest(key, elsewhere, cutoff):
            return meant
    return None
