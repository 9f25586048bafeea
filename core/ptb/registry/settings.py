"""A component's options as a pydantic model: named by the component, or read off its target's parameters.

Values are checked the way JSON is, and strictly: ``"5"`` is no integer, ``true`` is no integer, an integer is a number,
a list may fill a tuple. Unknown keys are forbidden whatever the model itself says.
"""

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from ptb.errors import ConfigError, PluginError, Problem, listing, one_line
from ptb.kinds import KINDS

OPTIONS = "options"  # the setting whose items are passed on to a target that takes any keyword argument
DEEPEST = 32  # pydantic reads no JSON that is nested 200 deep


def derive_model(kind: str, label: str, target: Callable[..., Any], passed: Collection[str] = ()) -> type[BaseModel]:
    """The settings of a target that names no model: its parameters after the runtime ones, with their annotations.

    Those in ``passed`` are no settings: the core passes them by keyword. A parameter that no config file could fill (a
    tensor, a callable) is left to its default, and named in the model's docstring. ``**kwargs`` become a table
    ``options``.
    """
    parameters = [p for p in parameters_of(target)[len(KINDS[kind].runtime) :] if p.name not in passed]
    parameters = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    check_names(f"{kind} {label}", [parameter.name for parameter in parameters])
    fields: dict[str, Any] = {}
    unset: list[str] = []
    for parameter, hint in zip(parameters, _hints(target, parameters), strict=True):
        required = parameter.default is parameter.empty
        annotation = _plain(hint)
        if annotation is not None:
            fields[parameter.name] = (annotation, ... if required else _default(parameter.default))
        elif required:
            raise PluginError(
                f"{kind} {label}: parameter '{parameter.name}' has no default and its type {hint} cannot be written in "
                "a config file"
            )
        else:
            unset.append(parameter.name)
    if _takes_options(target):
        text = "Further keyword arguments of the target, by name"
        fields[OPTIONS] = (dict[str, Any], Field(default_factory=dict, description=text))
    config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), arbitrary_types_allowed=True)
    note = f"No config file can hold these parameters, which keep their defaults: {listing(unset)}." if unset else None
    module = str(getattr(target, "__module__", ""))
    return create_model("Settings", __config__=config, __module__=module, __doc__=note, **fields)


def check_names(owner: str, names: Iterable[str]) -> None:
    """Refuses names that pydantic would pass over in silence, and the one that chooses the component."""
    for name in names:
        if name == "name":
            raise PluginError(f"{owner}: a setting cannot be called 'name': that key chooses the component")
        if name == "model_config" or name.startswith("_"):
            raise PluginError(f"{owner}: a setting cannot be called '{name}': pydantic makes no field of it")


def validate(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """``values`` as an instance of ``model``, defaults filled in.

    Raises:
        ConfigError: with every problem that was found; their keys are those of the model.
        PluginError: a validator of the model raised something else than it may.
    """
    unwritable = [Problem(key, why) for key, value in values.items() if (why := _unwritable(value))]
    if unwritable:
        raise ConfigError(*unwritable)
    with naming_model(model):
        try:
            return model.model_validate_json(json.dumps(dict(values)), strict=True, extra="forbid")
        except ValidationError as error:
            refused = error
    from ptb.registry.messages import format_errors  # a run without an error does not pay for it

    raise ConfigError(*format_errors(refused, model, values))


def arguments(settings: BaseModel, target: Callable[..., Any]) -> dict[str, Any]:
    """The settings as keyword arguments of the target; one with ``**kwargs`` gets the items of ``options`` as such.

    Raises:
        ConfigError: an item of ``options`` has the name of a setting.
    """
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    if OPTIONS not in values or not _takes_options(target):
        return values
    options = dict(values.pop(OPTIONS))
    if both := sorted(values.keys() & options):
        raise ConfigError(Problem(f"{OPTIONS}.{both[0]}", f"is a setting of its own; write it without '{OPTIONS}.'"))
    return values | options


def plain_values(settings: BaseModel) -> dict[str, Any]:
    """The settings as a config file holds them; what is or holds None is left out, because TOML has no null."""
    with naming_model(type(settings)):
        written = settings.model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in written.items() if not _has_null(value)}


@contextmanager
def naming_model(model: type[BaseModel]) -> Iterator[None]:
    """Names the model in whatever its validators, default factories and serializers raise."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the settings model {model.__module__}.{model.__qualname__} raised {one_line(error)}"
        ) from error


def parameters_of(target: Callable[..., Any]) -> list[inspect.Parameter]:
    """Its parameters; some classes written in C show none, and have nothing to set."""
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return []


def _takes_options(target: Callable[..., Any]) -> bool:
    """Whether it takes any keyword argument, and has no parameter ``options`` of its own."""
    parameters = parameters_of(target)
    own = any(p.name == OPTIONS and p.kind is not p.VAR_KEYWORD for p in parameters)
    return not own and any(p.kind is p.VAR_KEYWORD for p in parameters)


def _hints(target: Callable[..., Any], parameters: list[inspect.Parameter]) -> list[Any]:
    """The annotations of these parameters only: others may name types that exist for the type checker alone."""
    function: Any = getattr(target, "__init__") if isinstance(target, type) else inspect.unwrap(target)  # noqa: B009
    untyped = {p.name: Any if p.default in (p.empty, None) else type(p.default) for p in parameters}
    written = {p.name: untyped[p.name] if p.annotation is p.empty else p.annotation for p in parameters}
    holder = types.SimpleNamespace(__annotations__=written)
    hints = typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {}), include_extras=True)
    return [hints[p.name] for p in parameters]


def _plain(annotation: Any) -> Any:
    """The part of ``annotation`` that a config file can fill, or None: ``float | Tensor`` becomes ``float``."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        arms = [arm for arm in map(_plain, parts) if arm is not None]
        return Union[tuple(arms)] if any(arm is not types.NoneType for arm in arms) else None  # noqa: UP007
    if origin is Annotated:
        inner = _plain(parts[0])
        return None if inner is None else Annotated[(inner, *parts[1:])]
    if origin is tuple:
        inner_parts = [part if part is Ellipsis else _plain(part) for part in parts]
        return None if None in inner_parts else types.GenericAlias(tuple, tuple(inner_parts))
    if annotation in (None, types.NoneType):
        return types.NoneType
    torch = sys.modules.get("torch")
    if torch is not None and annotation is torch.dtype:
        return Annotated[annotation, *_AS_DTYPE]
    is_model = isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or hasattr(annotation, "__dataclass_fields__")
    )
    try:
        config = None if is_model else ConfigDict(arbitrary_types_allowed=True)
        TypeAdapter(annotation, config=config).json_schema()
    except (PydanticUserError, TypeError):  # no JSON form, or no schema at all
        return None
    return annotation


def _default(value: Any) -> Any:
    """A default that JSON cannot hold comes from a factory: pydantic would warn of it in every schema."""
    return Field(default_factory=lambda: value) if type(value).__module__ == "torch" else value


def _dtype(value: Any) -> Any:
    """The dtype of a text such as ``"bfloat16"`` or ``"torch.bfloat16"``."""
    torch = sys.modules["torch"]
    dtype = getattr(torch, str(value).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError('must be the name of a torch.dtype, such as "bfloat16"')
    return dtype


_AS_DTYPE = (
    PlainValidator(_dtype),
    PlainSerializer(lambda dtype: str(dtype).removeprefix("torch."), return_type=str),
    WithJsonSchema({"type": "string"}),
)


def _has_null(value: Any) -> bool:
    return value is None or any(map(_has_null, _items(value)))


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()


def _unwritable(value: Any, depth: int = 0) -> str:
    """Why a config file cannot hold a value, or nothing."""
    if value is None:
        return "null is no value in a config file; leave it out"
    if depth > DEEPEST:
        return f"is nested more than {DEEPEST} deep"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "is an integer of more than 64 bits, which no config file holds"
    if not isinstance(value, int | float | str | dict | list | tuple):
        return f"a {type(value).__name__} is no value of a setting; put a text in quotes"
    return next(filter(None, (_unwritable(item, depth + 1) for item in _items(value))), "")
