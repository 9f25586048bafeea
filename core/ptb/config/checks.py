"""Holds a configuration against the installed components and collects all that is wrong, each with key and source."""

import re
import reprlib
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ptb.config.files import LONGEST_KEY, KeyPath
from ptb.config.layers import FLAGS, RunConfig
from ptb.config.sections import (
    CORE_SECTIONS,
    INSTEAD,
    SHARED_SECTIONS,
    Grouping,
    ParameterGroup,
    RunSettings,
    TrainerSettings,
)
from ptb.errors import ConfigError, PluginError, Problem, closest, listing, pip_install, tidy
from ptb.kinds import RUN_KINDS, Kind
from ptb.registry.entry import RegisteredComponent
from ptb.registry.local import advice, recorded_version
from ptb.registry.registry import Registry
from ptb.registry.settings import arguments, plain_values, validate

SECTIONS = {kind.section: kind for kind in RUN_KINDS.values()}
KEYS = (*RunSettings.model_fields, *SECTIONS, *CORE_SECTIONS, "resolve")
OPEN = ("loss", "metric")  # kinds whose default follows from what the data set predicts
MOST_PROBLEMS = 100  # get a suggestion, which takes time: nobody reads on


@dataclass(frozen=True)
class ComponentConfig:
    """A component with its validated settings."""

    entry: RegisteredComponent
    settings: BaseModel

    def build(self, *runtime: Any, **switches: Any) -> Any:
        """Calls ``target(*runtime, **settings, **switches)``; a switch changes how the target computes, not what."""
        target = self.entry.load()
        return target(*runtime, **(arguments(self.settings, target) | switches))

    def as_config(self) -> dict[str, Any]:
        """The section of a config file that makes this choice again."""
        return {"name": self.entry.key, **plain_values(self.settings)}


@dataclass(frozen=True)
class GroupConfig:
    """One of ``optimizer.groups``: which parameters, and the optimizer that takes them, with all of its settings."""

    members: ParameterGroup
    optimizer: ComponentConfig
    given: tuple[str, ...]  # the settings that stand in the group itself

    def as_config(self) -> dict[str, Any]:
        """The table of a config file that means the same."""
        members, settings = plain_values(self.members), self.optimizer.as_config()
        return (
            {**settings, **members, "name": settings["name"]}
            if self.members.name
            else members | {key: settings[key] for key in self.given if key in settings}
        )

    @property
    def options(self) -> dict[str, Any]:
        """What the group of parameters has beside them: nothing where they have an optimizer of their own."""
        settings = arguments(self.optimizer.settings, self.optimizer.entry.load())
        return {} if self.members.name else {key: settings[key] for key in self.given}


class Checker:
    """Works through the sections; ``finish`` raises what was wrong in any of them.

    ``target_kind`` is what the data set predicts, once that is known. With ``may_lack``, required settings may miss.
    """

    def __init__(
        self, config: RunConfig, registry: Registry, target_kind: str | None = None, may_lack: bool = False
    ) -> None:
        self.config = config
        self.registry = registry
        self.target_kind = target_kind
        self.may_lack = may_lack
        self.problems: list[Problem] = []
        self.plugin_errors: list[PluginError] = []
        self.owners: dict[tuple[str, str], RegisteredComponent] = {}  # what the section ``resolve`` settles
        # The keys of each section; those of a component join when it is found.
        self.fields: dict[KeyPath, list[str]] = {(): [*RunSettings.model_fields]}
        self.fields |= {(name,): [*model.model_fields] for name, model in (CORE_SECTIONS | SHARED_SECTIONS).items()}

    def sections(self) -> dict[str, Any]:
        """All sections, the core's own and those of the components, by their names."""
        values = self.config.values
        with self._collecting():
            self._settle_names()
        parts = self.components(SECTIONS.values())
        for key in values:
            if key not in KEYS:
                self._add_problem((key,), self._unknown((key,), KEYS))
        with self._collecting():
            parts["run"] = self.top_level()
        with self._collecting():
            given = {key: value for key, value in self._table("optimizer").items() if key in Grouping.model_fields}
            parts["groups"] = self._groups(parts.get("optimizer"), given.get("groups"))
            parts["grouping"] = self._validated(Grouping, given, ("optimizer",))
        for name in CORE_SECTIONS:
            with self._collecting():
                parts[name] = self.core_section(name)
        self.finish()
        self._check_needs(parts["optimizer"], parts["groups"], parts["trainer"])
        self.finish()
        return parts

    def core_section(self, name: str) -> BaseModel:
        """A section of the core itself; one that is not there holds its defaults, which need no check."""
        model = CORE_SECTIONS[name]
        return self._validated(model, table, (name,)) if (table := self._table(name)) else model.model_construct()

    def top_level(self) -> BaseModel:
        """The keys that stand in no section."""
        given = {key: self.config.values[key] for key in RunSettings.model_fields if key in self.config.values}
        return self._validated(RunSettings, given)

    def components(self, kinds: Iterable[Kind]) -> dict[str, Any]:
        """The components of these kinds by their sections; None where they follow from the target kind."""
        chosen: dict[str, Any] = {}
        found: dict[KeyPath, tuple[RegisteredComponent, type[BaseModel]]] = {}
        for kind in kinds:
            with self._collecting():
                names = self._names(kind)
                chosen[kind.section] = {} if kind.labelled and names is not None else None
                for path, name in (names or {}).items():
                    with self._collecting():
                        entry = self._look_up(kind.name, name, (*path, "name"))
                        entry.check_dependencies()
                        found[path] = entry, entry.settings_model()
                        self.add_fields(path, *found[path])
        for path, (entry, model) in found.items():  # now that the keys of all sections are known
            with self._collecting():
                component = ComponentConfig(entry, self._settings(model, path))
                if len(path) == 1:
                    chosen[path[0]] = component
                else:
                    chosen[path[0]][path[1]] = component
        return chosen

    def add_fields(
        self, path: KeyPath, entry: RegisteredComponent, model: type[BaseModel], own: Sequence[str] | None = None
    ) -> None:
        """Notes the settings of a component, beside the core's own keys of its section."""
        own = self.fields.get(path, []) if own is None else own
        if both := set(own) & set(model.model_fields):
            raise PluginError(f"{entry}: a setting cannot be called {listing(sorted(both))}")
        self.fields[path] = [*model.model_fields, *own]

    def finish(self) -> None:
        """Raises what was collected."""
        if self.problems:
            raise ConfigError(*dict.fromkeys(self.problems))
        if self.plugin_errors:
            raise self.plugin_errors[0]

    @contextmanager
    def _collecting(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self.problems += error.problems
        except PluginError as error:
            self.plugin_errors.append(error)

    def _problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(".".join(path), message, self.config.source(*path))

    def _add_problem(self, path: KeyPath, message: str) -> None:
        self.problems.append(self._problem(path, message))

    def _table(self, section: str) -> Mapping[str, Any]:
        """A section as it was asked for, empty where it was not."""
        table = self.config.values.get(section, {})
        if isinstance(table, dict):
            return table
        if table is None:
            raise ConfigError(self._problem((section,), "null is no value in a config file; leave it out"))
        message = f"is a section, got {reprlib.repr(table)}; write {self._as_section(section, table)}"
        raise ConfigError(self._problem((section,), message))

    def _as_section(self, section: str, value: Any) -> str:
        """How a component is chosen in the place where ``section = value`` was written."""
        kind, source, name = SECTIONS.get(section), self.config.source(section), tidy(str(value), 40)
        if kind is None:
            return f"{section}.KEY=VALUE"
        if source.startswith(f"{section}="):
            return f"--{kind.flag} {shlex.quote(name)}"
        if source:
            return f"[{section}.{name}]" if kind.labelled else f'{section} = {{name = "{name}"}}'
        return f"{section}={{{name!r}: {{}}}}" if kind.labelled else f"{section}={{'name': {name!r}}}"

    def _settle_names(self) -> None:
        """``[resolve] model.lenet = "ptb-acme:lenet"`` settles whose ``lenet`` the short name is."""
        for kind, names in self._table("resolve").items():
            for name, owner in names.items() if isinstance(names, dict) else [("", names)]:
                path = ("resolve", kind, name)
                if kind not in RUN_KINDS or not isinstance(owner, str) or ":" not in owner:
                    message = f'must be KIND.NAME = "DISTRIBUTION:NAME", with a kind of {", ".join(RUN_KINDS)}'
                    self._add_problem(path, message)
                    continue
                with self._collecting():
                    entry = self._look_up(kind, owner, path)
                    if name not in (entry.name, *entry.component.aliases):
                        raise ConfigError(self._problem(path, f"'{owner}' is not called '{name}'"))
                    self.owners[kind, name] = entry

    def _names(self, kind: Kind) -> dict[KeyPath, Any] | None:
        """What is chosen of a kind, names or default components, by its place; None: it follows from the target."""
        section, table = kind.section, self._table(kind.section)
        if kind.labelled and section in self.config.values:
            labels = {label: given for label, given in table.items() if self._is_label(kind, label, given)}
            return {(section, label): given.get("name", label) for label, given in labels.items()}
        if "name" in table:
            return {(section,): table["name"]}
        if kind.name in OPEN and self.target_kind is None:
            return None
        if kind.name == "callback":  # `ptb run` adds those that are on by default, beside the configuration
            return {}
        defaults = self.registry.defaults(kind.name, self.target_kind)
        if kind.labelled:
            return {(section, entry.name): entry for entry in defaults}
        if defaults:
            return {(section,): defaults[0]}
        why = f", and none is the default for targets of kind '{self.target_kind}'" if self.target_kind else ""
        known = listing([e.key if e.conflict else e.name for e in self.registry.components(kind.name)])
        message = f"no {kind.name} is chosen{why}; add --{kind.flag} NAME, one of: {known or 'none is installed'}"
        raise ConfigError(self._problem((section,), message))

    def _is_label(self, kind: Kind, label: str, table: Any) -> bool:
        """Whether a label of ``[metrics]`` or ``[callbacks]`` and its table are what they can be."""
        message = ""
        if (kind.name, label) == ("metric", "loss"):
            message = "a metric cannot be called 'loss': the loss itself is reported under it"
        elif not label.strip() or not label.isprintable():
            message = f"a {kind.name} needs a label that can be read"
        elif not isinstance(table, dict):
            message = f"must be a table, got {reprlib.repr(table)}; write {kind.section}.{label}.name"
        if message:
            self._add_problem((kind.section, label), message)
        return not message

    def _look_up(self, kind: str, name: Any, path: KeyPath) -> RegisteredComponent:
        """The component that is named at ``path``; a default is there already."""
        if isinstance(name, RegisteredComponent):
            return name
        if not isinstance(name, str) or len(name) > LONGEST_KEY:
            raise ConfigError(self._problem(path, f"must be the name of a {kind}, got {reprlib.repr(name)}"))
        try:
            return self.owners.get((kind, name)) or self.registry.get(kind, name)
        except ConfigError as error:
            message, owner = error.problems[0].message, name.rpartition(":")[0]
            absent = all(found.name != owner for found in self.registry.found())
            if absent and owner.endswith(".py"):
                message = f"{kind} '{name}' is in a plugin file: {advice(owner, self.config.files)}"
            elif absent and (version := recorded_version(owner, self.config.files)):
                message = f"{kind} '{name}' is of the plugin {owner} {version}, which is not installed; run\n  "
                message += pip_install(f"{owner}=={version}") + "\nand give the command again"
            source = self.config.source(*path) or self.config.source(*path[:-1])  # a label may be the name
            raise ConfigError(Problem(".".join(path), message, source)) from None

    def _settings(self, model: type[BaseModel], path: KeyPath) -> BaseModel:
        """The validated settings of the component at ``path``."""
        table: Any = self.config.values
        for part in path:
            table = table.get(part, {})
        kept = {"name"} | (set(Grouping.model_fields) if path == ("optimizer",) else set())
        return self._validated(model, {key: value for key, value in table.items() if key not in kept}, path)

    def _validated(self, model: type[BaseModel], values: Mapping[str, Any], path: KeyPath = ()) -> BaseModel:
        own = self.fields.get(path, model.model_fields)
        try:
            return validate(model, values)
        except ConfigError as error:
            problems = []
            for key, message in ((problem.key, problem.message) for problem in error.problems):
                field = model.model_fields.get(key)
                missing = field is not None and field.is_required() and key not in values
                if self.may_lack and (missing or not key):  # what is said of all of them may be that one is missing
                    continue
                if key in values and key not in own:
                    message = self._unknown((*path, key), own, _synonyms(model).get(key, ""))
                source = self.config.source(*filter(None, (*path, re.split(r"[.\[]", key)[0])))
                problems.append(Problem(".".join(filter(None, (*path, key))), message, source))
            if problems:
                raise ConfigError(*problems) from None
            return model.model_construct(**values)

    def _unknown(self, path: KeyPath, own: Collection[str], place: str = "") -> str:
        """What to say of a key that its section, whose keys are ``own``, does not have; ``place`` may be meant."""
        if instead := INSTEAD.get(".".join(path)):
            return instead
        place = place or (self._meant(path, own) if len(self.problems) < MOST_PROBLEMS else "")
        meant = f" (did you mean '{place}'?)" if place else ""
        if place in path[:1]:  # "optimizer.lr" as one key
            holder, _, name = place.rpartition(".")
            meant = f" (did you mean '{name}' in the section '{holder}'?)"
        what = "unknown key" if path[1:] else "unknown section or key"
        return f"{what}{meant}; " + (f"valid are {listing(list(own))}" if own else "there are no settings")

    def _meant(self, path: KeyPath, own: Collection[str]) -> str:
        """The setting that an unknown key most likely is, by its whole place where it belongs to another section."""
        *section, key = path
        places = {flag: ".".join(place) for flag, place in FLAGS.items()}
        for others, names in reversed(self.fields.items()):  # components before the core
            for name in names:
                place = ".".join((*others, name))
                places |= {place: place, name: places.get(name, place)}
        if section and section[0] in SECTIONS:
            places["name"] = ".".join((*section, "name"))
        mine = {name: name for name in own}
        # The right word in a wrong place goes before a slip, and a slip in this section before one in another.
        for candidates, cutoff in ((places, 1.0), (mine, 0.75), (places, 0.75), (mine, 0.5)):
            if match := closest(key, candidates, cutoff):
                return candidates[match]
        return ""

    def _groups(self, optimizer: ComponentConfig | None, tables: Any) -> tuple[GroupConfig, ...]:
        """The checked tables of ``optimizer.groups``; none where they are no tables, or the optimizer is not known."""
        if optimizer is None or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            return ()
        common = plain_values(optimizer.settings) if tables else {}
        groups = []
        for number, table in enumerate(tables):
            with self._collecting():
                groups.append(self._group(("optimizer", f"groups[{number}]"), table, optimizer, common))
            if len(self.problems) > MOST_PROBLEMS:
                break
        return tuple(groups)

    def _group(
        self, path: KeyPath, table: Mapping[str, Any], optimizer: ComponentConfig, common: Mapping[str, Any]
    ) -> GroupConfig:
        """One of them, whose settings are laid over the ``common`` ones, or are those of an optimizer of its own."""
        entry, model = optimizer.entry, type(optimizer.settings)
        if "name" in table:
            entry = self._look_up("optimizer", table["name"], (*path, "name"))
            entry.check_dependencies()
            model, common = entry.settings_model(), {}
        self.add_fields(path, entry, model, [*ParameterGroup.model_fields])
        own = {key: value for key, value in table.items() if key in ParameterGroup.model_fields}
        given = {key: value for key, value in table.items() if key not in own}
        members: Any = None
        with self._collecting():
            members = self._validated(ParameterGroup, own, path)
        settings = self._validated(model, {**common, **given}, path)
        return GroupConfig(members, ComponentConfig(entry, settings), tuple(given))

    def _check_needs(self, optimizer: ComponentConfig, groups: Iterable[GroupConfig], trainer: TrainerSettings) -> None:
        """What each key allows and the needs of the optimizers do not."""
        for component in (optimizer, *(group.optimizer for group in groups if group.members.name)):
            record = component.entry
            for key, message in step_problems(record.name, record.component.needs, trainer).items():
                self._add_problem(("trainer", key), message)


def step_problems(optimizer: str, needs: Collection[str], trainer: TrainerSettings) -> dict[str, str]:
    """Messages, by keys of ``trainer``, about what an optimizer with these needs cannot do."""
    problems = {}
    if "closure" in needs:
        why = f"'{optimizer}' evaluates the loss several times a step"
        if trainer.accumulate > 1:
            problems["accumulate"] = f"must be 1, got {trainer.accumulate}: {why}"
        if trainer.precision == "fp16":
            problems["precision"] = f"must be fp32 or bf16, got fp16: {why}, which no loss scaler allows"
    elif "create-graph" in needs and trainer.precision == "fp16":
        why = f"'{optimizer}' differentiates the gradients, which a loss scaler scales"
        problems["precision"] = f"must be fp32 or bf16, got fp16: {why}"
    return problems


def _synonyms(model: type[BaseModel]) -> dict[str, str]:
    """The keys of a model by words that people try instead: ``json_schema_extra={"synonyms": [...]}`` of a field."""
    extras: Any = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return {
        word: name for name, extra in extras.items() if isinstance(extra, dict) for word in extra.get("synonyms", ())
    }
