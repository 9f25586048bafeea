"""What a checkpoint would lose: two trainings, one loaded from the state of the other, take a step and are compared."""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from ptb.errors import listing, one_line
from ptb.seeding import preserve_rng_state
from ptb.storage.checkpoint import differences
from ptb.storage.codec import EncodeError, decode, encode
from ptb.training.protocols import Batch
from ptb.training.snapshot import restore_snapshot, single_components, take_snapshot
from ptb.training.trainer import Trainer

SHOWN = 3
_GENERATORS: dict[type, Callable[[Any], Any]] = {
    torch.Generator: torch.Generator.get_state,
    random.Random: random.Random.getstate,
    np.random.Generator: lambda generator: generator.bit_generator.state,
    np.random.RandomState: lambda generator: generator.get_state(legacy=False),
}


def lost_state(trainer: Trainer, fresh: Trainer, batches: Sequence[Batch], names: Mapping[str, str]) -> dict[str, str]:
    """What each component of a training would lose, by its section.

    The state of ``trainer``, which has taken a step, is loaded into ``fresh``, which was built in the same way. Both
    take one more step before they are compared. Messages call the components by their ``names``.
    """
    trainer.train_metrics.flush()
    snapshot, lost = take_snapshot(trainer), {}
    for label, error in drop_unsavable(snapshot, trainer).items():
        section = f"callbacks.{label}"
        lost[section] = f"{names[section]} has state that no checkpoint can hold: {error}"
    try:
        restore_snapshot(fresh, decode(encode(snapshot), trainer.device))
    except EncodeError as error:
        return {"": f"{error}, which no checkpoint can hold"}
    except (Exception, SystemExit) as error:  # a component may raise anything on its own state
        section = fresh.calls.now
        lost[section] = f"{names.get(section, 'the training')} cannot load its own state: {one_line(error)}"
        return lost
    try:
        for each, begin in ((trainer, False), (fresh, True)):
            with preserve_rng_state():
                each.try_step(batches, begin=begin)
                each.train_metrics.flush()
    except (Exception, SystemExit):  # two samples may be learned in one step, and there is none to take after that
        return lost
    seen: set[int] = set()
    moved: dict[str, str] = {}
    certain = bool(lost)
    others = _components(fresh)
    for section, component in _components(trainer).items():
        places = list(_differences(component, others[section], "", seen))
        if not places:
            continue
        where, tops = listing(places, SHOWN), {place.partition(".")[0] for place in places}
        text = f"{names[section]} keeps state that is in no state_dict: {where}"
        if section == "model" and all(place.endswith("_parameters") for place in places):
            moved[section] = text
        elif section in ("optimizer", "scheduler") and tops <= {*snapshot[section]} - {"state"}:
            moved[section] = (
                f"{names[section]} saves {where}, and has other values after a load and a step: it or a callback keeps "
                "state that is in no state_dict"
            )
        else:
            lost.setdefault(section, text)
            certain |= not all(place.startswith("state.") for place in places)
    # Weights, and the optimizer's state of each, are always saved: where only they differ after the step, it may be
    # the model or the optimizer that has lost something.
    return lost if certain else moved | lost


def drop_unsavable(snapshot: dict[str, Any], trainer: Trainer) -> dict[str, str]:
    """Take out the states of observers that no checkpoint can hold, and return what is wrong with each by its label."""
    dropped = {}
    for label in trainer.callbacks.observers.components:
        try:
            encode(snapshot["callbacks"].get(label))
        except EncodeError as error:
            dropped[label] = str(error)
            del snapshot["callbacks"][label]
    return dropped


def _components(trainer: Trainer) -> dict[str, object]:
    metrics, callbacks = trainer.train_metrics.metrics, trainer.callbacks.components()
    return {
        "model": trainer.model,
        **single_components(trainer),
        **{f"metrics.{label}": metric for label, metric in metrics.items()},
        **{f"callbacks.{label}": callback for label, callback in callbacks.items()},
    }


def _differences(one: Any, other: Any, path: str, seen: set[int]) -> Iterator[str]:
    """The places of what differs in two objects that were built and used in the same way.

    Whatever a checkpoint can hold is compared as the bytes that it would hold; other objects by what is in them.
    """
    # What one component has is not compared again where another one refers to it.
    if one is other or id(one) in seen or _are_plainly_equal(one, other):
        return
    try:
        if not differences(encode(one), encode(other)):
            return
        if not _is_by_id(one):
            yield path
            return
    except EncodeError:
        seen.add(id(one))
    ones, others = _inside(one), _inside(other)
    if ones.keys() != others.keys():
        yield path or "attributes"
        return
    for name, value in ones.items():
        yield from _differences(value, others[name], f"{path}.{name}".removeprefix("."), seen)


def _are_plainly_equal(one: Any, other: Any) -> bool:
    """Whether two values are one short value, or both empty, as most of what a module holds: encoding takes longer."""
    kind = type(one)
    if kind is not type(other):
        return False
    return one == other if kind in (bool, int, str) else kind in (dict, OrderedDict) and not one and not other


def _is_by_id(value: Any) -> bool:
    """Whether the keys of a dict are likely ``id(parameter)``, another number in each object."""
    return isinstance(value, dict) and bool(value) and all(isinstance(key, int) and key > 2**32 for key in value)


def _inside(owner: Any) -> dict[Any, Any]:
    """The parts of an object that no checkpoint can hold as it is, by their names or places."""
    if read := next((read for kind, read in _GENERATORS.items() if isinstance(owner, kind)), None):
        return {"state": read(owner)}
    if isinstance(owner, Mapping):
        # Keys may be tensors, and hooks have numbers that torch counts up for the whole process.
        return {key if isinstance(key, str) else place: each for place, (key, each) in enumerate(owner.items())}
    if isinstance(owner, list | tuple | deque):
        return dict(enumerate(owner))
    held = dict(getattr(owner, "__dict__", {}))
    if isinstance(groups := held.get("param_groups"), list):  # the parameters in them are the model's
        held["param_groups"] = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    if isinstance(owner, Optimizer):
        held.pop("defaults")  # of groups that are added later; torch changes them when it loads a state
        held.pop("_made_up", None)  # groups of an optimizer that has none: only parameters
        held.pop("_numel_cache", None)  # of LBFGS, which computes it when it needs it
    return held
