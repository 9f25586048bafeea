"""Puts off the import of ``torch._dynamo``, which takes as long as that of torch itself.

Every optimizer of torch imports it when it is built and again in each step, to tell the compiler where not to look. As
long as nothing is compiled, nobody is told anything. Where several processes train, they tell it to forget what it has
looked up, which is nothing.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

NAME = "torch._dynamo"
# What is asked of every module by those who only look around, such as `inspect.getmodule`; these two are asked for use.
USED = ("__path__", "__all__")


class LazyDynamo(ModuleType):
    """Stands in for the module until anything is asked of it but what optimizers ask; then the real one takes over."""

    def __init__(self) -> None:
        super().__init__(NAME, self.__doc__)
        self.__spec__ = importlib.util.find_spec(NAME)

    def graph_break(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing is compiled, so there is no graph to break."""

    def disable(self, function: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """The function as it is: what is not compiled needs no exception from it."""
        return function or self.__getattr__("disable")(*args, **kwargs)

    @property
    def trace_rules(self) -> Any:
        """The real module's; until then, of what it offers, only the cache that nothing is in."""
        if sys.modules.get(NAME) is self:
            return SimpleNamespace(clear_lru_cache=lambda: None)
        return self.__getattr__("trace_rules")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in USED:
            raise AttributeError(f"module '{NAME}' has no attribute '{name}'")
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            sys.modules["torch"].__dict__.pop("_dynamo", None)
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)


def put_off_dynamo() -> None:
    """Lets the module be imported when it is needed first; does nothing where it is imported already."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = LazyDynamo()
