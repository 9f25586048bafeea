"""For a model that was trained before: keep some of its layers as they are, for good or for the first epochs."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from ptb import Callback, ConfigError
from ptb_callbacks.text import listing


class Freeze(Callback):
    """Keeps parameters as they are: they get no gradient, so that clipping, optimizer and weight decay skip them.

    Layers with running statistics (batch norm; instance norm with ``track_running_stats``) are in eval mode where all
    their parameters, or their ``running_mean``, are matched: then their statistics stay as they are too. What the model
    has frozen itself stays frozen in any case.

    Args:
        match: patterns of names as in ``fnmatch``, of parameters and of running statistics.
        until_epoch: epoch, counted from 1, from which on they are trained; None is never.
    """

    def __init__(self, *, match: Sequence[str], until_epoch: int | None = None) -> None:
        self.match = tuple(match)
        self.until_epoch = until_epoch
        self._frozen: list[str] = []

    def on_fit_start(self, trainer: Any) -> None:
        """Freeze.

        Raises:
            ConfigError: a pattern matches nothing, nothing is left to train, or the epoch to unfreeze at never comes.
        """
        names = [*_names(trainer.model)]
        for pattern in self.match:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"freeze: '{pattern}' in match matches nothing; there are: {listing(names)}")
        epochs = trainer.settings.epochs
        if self.until_epoch is not None and self.until_epoch > epochs:
            raise ConfigError(
                f"freeze: until_epoch={self.until_epoch} never comes with trainer.epochs={epochs}; leave it out to "
                "freeze for the whole run"
            )
        self.on_epoch_start(trainer)

    def on_epoch_start(self, trainer: Any) -> None:
        """Freeze what another callback has let go, and take out of train mode what ``model.train()`` put into it."""
        if not self._is_active(trainer):
            return
        model = trainer.model
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and self._matches(name):
                parameter.requires_grad_(False)
                parameter.grad = None
                self._frozen.append(name)
        for name, module in model.named_modules():
            if _has_statistics(module) and self._has_frozen(module, name):
                module.eval()
        if not any(each.requires_grad for group in trainer.optimizer.param_groups for each in group["params"]):
            names = listing(name for name, _ in model.named_parameters())
            raise ConfigError(f"freeze: nothing is left to train with match={[*self.match]}; parameters are: {names}")

    def on_epoch_end(self, trainer: Any) -> None:
        """Let go what is trained from the next epoch on.

        Not when that epoch starts: there, whichever of several callbacks comes last would decide on what both match.
        """
        if not self._is_active(trainer):
            for name in self._frozen:
                trainer.model.get_parameter(name).requires_grad_(True)
            self._frozen = []

    def state_dict(self) -> dict[str, Any]:
        """The names of the parameters that it has frozen."""
        return {"frozen": list(self._frozen)}

    def load_state_dict(self, state: Any) -> None:
        """Restore them."""
        self._frozen = list(state["frozen"])

    def _is_active(self, trainer: Any) -> bool:
        """Whether the epoch that goes on, or comes next, is one of the frozen ones."""
        return self.until_epoch is None or trainer.state.epoch + 1 < self.until_epoch

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.match)

    def _has_frozen(self, module: nn.Module, name: str) -> bool:
        """Whether the statistics of a layer are frozen: by themselves, or with all of its parameters."""
        own = [_join(name, each) for each, _ in module.named_parameters(recurse=False)]
        return self._matches(_join(name, "running_mean")) or (bool(own) and all(map(self._matches, own)))


def _names(model: nn.Module) -> Iterator[str]:
    """What patterns may match: the parameters, and the statistics of normalisation layers."""
    yield from (name for name, _ in model.named_parameters())
    yield from (_join(name, "running_mean") for name, module in model.named_modules() if _has_statistics(module))


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module._buffers.get("running_mean"), Tensor)


def _join(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name
