"""A run's configuration, checked: each component found, each setting validated. Imports no torch.

``resolve`` runs once a command and gives a ``PartialConfig``, all that is known before the data set is built. What the
data set predicts then chooses a loss and metrics that nobody named: ``with_target`` gives the ``ResolvedConfig``.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from ptb.config.checks import SECTIONS, Checker
from ptb.config.checks import ComponentConfig as ComponentConfig
from ptb.config.checks import GroupConfig as GroupConfig
from ptb.config.checks import step_problems as step_problems
from ptb.config.layers import RunConfig
from ptb.config.sections import CORE_SECTIONS, Grouping, LoaderSettings, PluginSettings, RunSettings, TrainerSettings
from ptb.registry.registry import Registry
from ptb.registry.selection import PluginRequest, Selection
from ptb.registry.settings import plain_values


@dataclass(frozen=True, kw_only=True)
class _Sections:
    """What a configuration holds both before and after the target kind is known."""

    run: RunSettings
    dataset: ComponentConfig
    model: ComponentConfig
    initializer: ComponentConfig
    optimizer: ComponentConfig
    grouping: Grouping  # the core's own keys of the section ``optimizer``
    groups: tuple[GroupConfig, ...]  # its ``groups``, checked
    scheduler: ComponentConfig
    callbacks: dict[str, ComponentConfig]
    loader: LoaderSettings
    trainer: TrainerSettings
    plugins: PluginSettings

    def components(self) -> dict[str, ComponentConfig]:
        """All chosen components by their section; labelled ones as ``metrics.LABEL``."""
        found: dict[str, ComponentConfig] = {}
        for section in SECTIONS:
            chosen = getattr(self, section)
            if isinstance(chosen, dict):
                found |= {f"{section}.{label}": component for label, component in chosen.items()}
            elif chosen is not None:
                found[section] = chosen
        for number, group in enumerate(self.groups):
            if group.members.name:
                found[f"optimizer.groups[{number}]"] = group.optimizer
        return found

    def as_config(self) -> dict[str, Any]:
        """The values of a config file that means the same."""
        written: dict[str, Any] = self.run.model_dump()
        for section in SECTIONS:
            chosen = getattr(self, section)
            if isinstance(chosen, dict):
                written[section] = {label: component.as_config() for label, component in chosen.items()}
            elif chosen is not None:
                written[section] = chosen.as_config()
        written["optimizer"] |= plain_values(self.grouping) | {"groups": [group.as_config() for group in self.groups]}
        for name in CORE_SECTIONS:
            written[name] = getattr(self, name).model_dump(exclude_none=True, exclude_defaults=name == "plugins")
        return {section: values for section, values in written.items() if (section, values) != ("plugins", {})}

    def with_runtime(self, device: str, threads: int, memory_format: str) -> Self:
        """The same with what was chosen on this machine, so that the run can be repeated as it was."""
        run = self.run.model_copy(update={"device": device, "threads": threads})
        return replace(self, run=run, trainer=self.trainer.model_copy(update={"memory_format": memory_format}))


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(_Sections):
    """A complete run."""

    loss: ComponentConfig
    metrics: dict[str, ComponentConfig]


@dataclass(frozen=True, kw_only=True)
class PartialConfig(_Sections):
    """A run whose data set is not built: a loss and metrics that nobody named are None.

    ``asked`` is what it was made of, ``registry`` where its components were looked up.
    """

    loss: ComponentConfig | None
    metrics: dict[str, ComponentConfig] | None
    asked: RunConfig = field(compare=False, repr=False)
    registry: Registry = field(compare=False, repr=False)

    def with_target(self, target_kind: str) -> ResolvedConfig:
        """The complete run, for a data set with targets of this kind."""
        checker = Checker(self.asked, self.registry, target_kind)
        for section, component in self.components().items():
            checker.add_fields(tuple(section.split(".", 1)), component.entry, type(component.settings))
        chosen: dict[str, Any] = {"loss": self.loss, "metrics": self.metrics}
        chosen |= checker.components(SECTIONS[section] for section, known in chosen.items() if known is None)
        checker.finish()
        return ResolvedConfig(**{each.name: getattr(self, each.name) for each in fields(_Sections)}, **chosen)


def resolve(config: RunConfig, registry: Registry, may_lack: bool = False) -> PartialConfig:
    """Checks every key, name and value; a ``ConfigError`` tells all problems at once, each with key and source.

    With ``may_lack``, required settings may still be missing. A ``PluginError`` says that nothing is wrong with the
    configuration, but a plugin's settings cannot be had.
    """
    return PartialConfig(asked=config, registry=registry, **Checker(config, registry, may_lack=may_lack).sections())


def resolve_some(config: RunConfig, registry: Registry, sections: Collection[str]) -> dict[str, Any]:
    """As ``resolve``, of these sections, and ``"run"``: the keys that stand in none; other sections may be wrong."""
    checker = Checker(config, registry)
    chosen = checker.components(kind for section, kind in SECTIONS.items() if section in sections)
    chosen |= {name: checker.core_section(name) for name in CORE_SECTIONS if name in sections}
    chosen["run"] = checker.top_level()
    checker.finish()
    return chosen


def selection(config: RunConfig) -> Selection:
    """What the section ``plugins`` asks for."""
    plugins = Checker(config, Registry(())).core_section("plugins")
    disable, require = (
        tuple(PluginRequest(text, config.source("plugins", key)) for text in getattr(plugins, key))
        for key in ("disable", "require")
    )
    return Selection(disable=disable, require=require)
