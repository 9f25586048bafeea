"""Puts off the import of ``torch._dynamo``, which takes as long as that of torch itself.

Every optimizer of torch imports it when it is built and again in each step, to tell the compiler where not to look. As
long as nothing is compiled, nobody is told anything.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"
# What is asked of every module by those who only look around, such as `inspect.getmodule`; these two are asked for use.
USED = ("__path__", "__all__")


class LazyDynamo(ModuleType):
    """Stands in for the module until anything is asked of it but what optimizers ask; then the real one takes over."""

    def __init__(self) -> None:
        super().__init__(NAME, self.__doc__)
        spec = importlib.util.find_spec(NAME)
        self.__dict__.update(_left_alone=[], __spec__=spec, __file__=spec.origin if spec else None)

    def graph_break(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing is compiled, so there is no graph to break."""

    def disable(self, function: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """The function as it is: what is not compiled needs no exception from it."""
        if function is None or args not in ((), (True,)) or set(kwargs) - {"recursive", "wrapping", "reason"}:
            return self.__getattr__("disable")(function, *args, **kwargs)
        self._left_alone.append(function)
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in USED:
            raise AttributeError(f"module '{NAME}' has no attribute '{name}'")
        if sys.modules.get(NAME) is self:
            self._give_way()
        return getattr(sys.modules[NAME], name)

    def _give_way(self) -> None:
        del sys.modules[NAME]
        sys.modules["torch"].__dict__.pop("_dynamo", None)
        for function in self._left_alone:  # torch remembers the answer there: it is to ask again
            function.__dict__.pop("__dynamo_disable", None)
        importlib.import_module(NAME)


def put_off_dynamo() -> None:
    """Lets the module be imported when it is needed first; does nothing where it is imported already."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = LazyDynamo()
