import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from ptb import DataSpec
from ptb.storage.checkpoint import Checkpoint, differences, load_checkpoint, save_checkpoint
from ptb.storage.codec import DecodeError, Decoder, EncodeError, Encoder, State
from ptb.storage.object_state import capture, restore

SPEC = DataSpec((4,), "vector", "class", 3)
GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.randn(40, 3, generator=GENERATOR)
TARGETS = torch.randint(3, (40,), generator=GENERATOR)


def state(root, known=()):
    writer = Encoder()
    node = {"root": capture(root, "root", writer, known)}
    return State(node, writer.tensors)


def carried(source, target, folder):
    """``target`` after the state of ``source`` has come to it through a file."""
    saved = load_checkpoint(save_checkpoint(folder, 1, state(source), {})).state
    restore(target, saved.node["root"], Decoder(saved.tensors))
    return target


def unlike(one, other):
    first, second = (Checkpoint(None, 1, {}, state(each)) for each in (one, other))
    return differences(first, second)


class Bag:
    """State in all the places where a metric may keep it."""

    def __init__(self):
        self.count, self.sum, self.kept, self.name = 0, 0.0, [], "none"
        self.recent, self.seen, self.pairs = deque(maxlen=2), Counter(), {}
        self.table, self.last = np.zeros((2, 2), np.int32), None
        self.tensor = torch.zeros(3)
        self.same = self.tensor
        self.inner = Inner()
        self.several = [Inner(), Inner()]
        self.named = {"a": Inner(), 7: Inner()}
        self.fixed = Fixed(torch.ones(2))
        self.function = len
        self.lock = (x for x in ())

    def update(self, number):
        self.count += 1
        self.sum += number
        self.kept.append(torch.full((2,), number))
        self.name, self.last = f"name {number}", (number, None)
        self.recent.append(number)
        self.seen[number] += 1
        self.pairs[number, "x"] = {number}
        self.table[0, 1] += 3
        self.tensor += number
        for inner in (self.inner, *self.several, *self.named.values()):
            inner.grown.append(number)


class Inner:
    def __init__(self):
        self.grown, self.empty = [], {}


@dataclass(frozen=True)
class Fixed:
    value: torch.Tensor


def test_an_object_gets_back_all_that_its_attributes_say(tmp_path):
    source = Bag()
    source.update(3.0)
    source.update(5.0)
    target = carried(source, Bag(), tmp_path)
    assert unlike(source, target) == []
    assert (target.count, target.sum, target.name, target.last) == (2, 8.0, "name 5.0", (5.0, None))
    assert (target.recent, target.seen, target.pairs) == (source.recent, source.seen, source.pairs)
    assert (target.recent.maxlen, type(target.seen)) == (2, Counter)
    assert target.table.tolist() == [[0, 6], [0, 0]]
    assert [each.tolist() for each in target.kept] == [[3, 3], [5, 5]]
    assert [inner.grown for inner in (target.inner, *target.several, *target.named.values())] == [[3.0, 5.0]] * 5
    assert target.function is len


class Phase(Enum):
    COLD, WARM = "cold", "warm"


class Seen(NamedTuple):
    number: int
    values: torch.Tensor


@dataclass(frozen=True)
class ResolvedConfig:
    rate: float
    names: tuple[str, ...] = ()


class Typed:
    """State whose types are made by its package, or need more than their values."""

    def __init__(self):
        self.phase, self.seen, self.plan = Phase.COLD, Seen(0, torch.zeros(2)), ResolvedConfig(0.1)
        self.counts, self.fixed, self.missing = defaultdict(int), Fixed(torch.ones(2)), None

    def update(self):
        self.phase, self.seen, self.plan = Phase.WARM, Seen(3, torch.full((2,), 0.5)), replace(self.plan, names=("a",))
        self.counts["x"] += 2


def test_values_of_a_type_of_their_own_come_back_in_it(tmp_path):
    source, target = Typed(), Typed()
    source.update()
    fixed = target.fixed
    carried(source, target, tmp_path)
    assert unlike(source, target) == []
    assert (target.phase, target.plan) == (Phase.WARM, ResolvedConfig(0.1, ("a",)))
    assert (type(target.seen), target.seen.number, target.seen.values.tolist()) == (Seen, 3, [0.5, 0.5])
    assert (target.counts["x"], target.counts["y"]) == (2, 0)
    assert target.fixed.value.tolist() == fixed.value.tolist()


def test_a_value_that_did_not_change_stays_the_object_that_it_is(tmp_path):
    target = Typed()
    before = [target.phase, target.plan, target.counts]
    carried(Typed(), target, tmp_path)
    assert all(one is other for one, other in zip(before, [target.phase, target.plan, target.counts], strict=True))


def test_a_value_whose_type_nobody_knows_any_more_is_noticed(tmp_path):
    source = Typed()
    source.missing = Phase.WARM
    assert unlike(source, carried(source, Typed(), tmp_path)) != []


@pytest.mark.parametrize("node", ["HOT", 3, []], ids=str)
def test_a_member_that_an_enumeration_has_not_is_refused(node):
    saved = state(Typed())
    saved.node["root"]["made"]["phase"] = node
    with pytest.raises(DecodeError):
        restore(Typed(), saved.node["root"], Decoder(saved.tensors))


def test_what_follows_is_the_same_as_if_nothing_had_been_saved(tmp_path):
    source = Bag()
    source.update(3.0)
    target = carried(source, Bag(), tmp_path)
    source.update(0.1)
    target.update(0.1)
    assert unlike(source, target) == []


def test_a_tensor_stays_the_object_that_others_refer_to(tmp_path):
    source, target = Bag(), Bag()
    source.tensor += 4
    tensor, alias = target.tensor, target.same
    carried(source, target, tmp_path)
    assert target.tensor is tensor is alias is target.same
    assert tensor.tolist() == [4, 4, 4]


def test_an_earlier_capture_does_not_change_when_the_object_goes_on():
    source, target = Bag(), Bag()
    source.update(1.0)
    saved = state(source)
    source.update(2.0)
    restore(target, saved.node["root"], Decoder(saved.tensors))
    assert (target.count, target.tensor.tolist(), target.table[0, 1]) == (1, [1, 1, 1], 3)


def test_the_same_state_can_be_put_back_twice():
    source = Bag()
    source.update(1.0)
    saved = state(source)
    for _ in range(2):
        source.update(7.0)
        restore(source, saved.node["root"], Decoder(saved.tensors))
        assert (source.count, source.tensor.tolist(), source.inner.grown) == (1, [1, 1, 1], [1.0])


def test_a_tensor_of_another_shape_takes_the_place_of_the_one_that_is_there(tmp_path):
    source, target = Bag(), Bag()
    source.tensor = torch.arange(7)
    assert carried(source, target, tmp_path).tensor.tolist() == list(range(7))


class Sharing:
    """Three names for one tensor, until something else is assigned; and a view of another."""

    def __init__(self):
        zero = torch.zeros(2)
        self.first, self.second, self.third = zero, zero, zero
        self.whole = torch.zeros(2, 2)
        self.row = self.whole[0]
        self.spread = torch.zeros(1).expand(3)


def test_names_that_shared_a_tensor_and_do_not_any_more_keep_their_own_values(tmp_path):
    source = Sharing()
    source.first, source.second = torch.full((2,), 1.0), torch.full((2,), 2.0)
    target = carried(source, Sharing(), tmp_path)
    assert [each.tolist() for each in (target.first, target.second, target.third)] == [[1, 1], [2, 2], [0, 0]]
    target.first += 5
    assert [each.tolist() for each in (target.second, target.third)] == [[2, 2], [0, 0]]


def test_names_that_came_to_share_a_tensor_share_it_again(tmp_path):
    source = Bag()
    source.newest = source.oldest = source.tensor
    target = Bag()
    target.newest, target.oldest = torch.ones(3), torch.ones(3)
    carried(source, target, tmp_path)
    target.oldest += 2
    assert target.newest.tolist() == target.tensor.tolist() == [2, 2, 2]


def test_views_stay_views(tmp_path):
    source = Sharing()
    source.row += float("nan")
    source.whole[1] -= 0.0
    target = carried(source, Sharing(), tmp_path)
    target.whole[0] = 9
    assert target.row.tolist() == [9, 9]
    assert target.spread.tolist() == [0, 0, 0]


class Cyclic:
    def __init__(self):
        self.number, self.me, self.other = 0, self, Inner()
        self.other.back, self.other.list = self, [self]
        self.module = nn.Linear(1, 1)
        self.module.owner = self


def test_objects_that_refer_to_each_other_are_written_once(tmp_path):
    source = Cyclic()
    source.number = 5
    source.other.grown.append(6)
    target = carried(source, Cyclic(), tmp_path)
    assert (target.number, target.other.grown) == (5, [6])
    assert (target.me, target.other.back, target.other.list[0]) == (target, target, target)


class Drawing:
    def __init__(self, seed=0):
        self.torch, self.python = torch.Generator().manual_seed(seed), random.Random(seed)
        self.old, self.new = np.random.RandomState(seed), np.random.default_rng(seed)
        self.philox = np.random.Generator(np.random.Philox(seed))
        self.inner = Inner()
        self.inner.source = np.random.Generator(np.random.MT19937(seed))

    def drawn(self):
        return [
            torch.rand(3, generator=self.torch).tolist(),
            self.python.gauss(0, 1),
            self.old.standard_normal(3).tolist(),
            self.new.random(3).tolist(),
            self.philox.integers(9, size=3, dtype=np.int32).tolist(),
            self.inner.source.random(),
        ]


def test_generators_draw_on_from_where_they_were(tmp_path):
    source = Drawing()
    source.drawn()  # with one number of a pair left over, and half of a word
    target = carried(source, Drawing(seed=1), tmp_path)
    assert source.drawn() == target.drawn()
    assert source.drawn() == target.drawn()


class WithState:
    def __init__(self):
        self.secret, self.loads = 0, 0

    def state_dict(self):
        return {"secret": self.secret, "moments": torch.full((2,), float(self.secret))}

    def load_state_dict(self, state):
        self.secret, self.loads = state["secret"], self.loads + 1
        assert state["moments"].tolist() == [self.secret] * 2


def test_an_object_that_has_a_state_dict_is_asked_for_it(tmp_path):
    source, holder = WithState(), Inner()
    source.secret, source.not_told = 3, "no"
    holder.held = source
    target = carried(source, WithState(), tmp_path)
    assert (target.secret, target.loads, hasattr(target, "not_told")) == (3, 1, False)
    other = Inner()
    other.held = WithState()
    assert carried(holder, other, tmp_path).held.secret == 3


def test_a_state_dict_of_what_cannot_be_saved_is_told(tmp_path):
    source = WithState()
    source.secret = object()
    source.state_dict = lambda: {"secret": source.secret}
    with pytest.raises(EncodeError, match=r"root\.secret is a builtins\.object"):
        state(source)


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("kept", torch.zeros(2))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.register_buffer("later", None, persistent=False)
        self.steps, self.ratio = 0, 0.5
        self.source = torch.Generator().manual_seed(2)
        self.plain = torch.zeros(2)
        self.views = [self.linear.weight[0], self.kept[:1]]
        self.alias = self.linear.weight


def weights_of(model):
    return [*model.state_dict().values(), *model.parameters()]


def taken(source, target, folder):
    """As a training does it: weights by ``state_dict``, and the rest."""
    saved = state(source, weights_of(source))
    target.load_state_dict(source.state_dict())
    restore(target, saved.node["root"], Decoder(saved.tensors))
    return target


def test_a_model_gets_back_what_its_state_dict_does_not_tell(tmp_path):
    source = Hidden()
    source.steps, source.hidden, source.later = 4, torch.ones(2), torch.ones(3, dtype=torch.int16)
    source.plain += 2
    torch.rand(5, generator=source.source)
    target = Hidden()
    weight, view = target.linear.weight, target.views[0]
    taken(source, target, tmp_path)
    assert (target.steps, target.ratio, target.hidden.tolist(), target.plain.tolist()) == (4, 0.5, [1, 1], [2, 2])
    assert (target.later.dtype, target.later.tolist()) == (torch.int16, [1, 1, 1])
    assert torch.equal(torch.rand(2, generator=source.source), torch.rand(2, generator=target.source))
    assert target.linear.weight is target.alias is weight
    assert target.views[0] is view
    assert target.views[0].data_ptr() == weight.data_ptr()
    assert set(dict(target.named_buffers())) == {"kept", "hidden", "later"}
    assert set(target.state_dict()) == set(source.state_dict())


def test_a_tensor_without_values_is_no_weight():
    model = Hidden()
    model.gap, model.blank = nn.Parameter(torch.empty(0)), torch.empty(0, 3)
    assert {name for name in state(model, weights_of(model)).tensors if "gap" in name or "blank" in name} == {
        "root.blank"
    }


def test_weights_are_not_written_twice():
    model = Hidden()
    assert not any("weight" in name or "kept" in name for name in state(model, weights_of(model)).tensors)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.there, self.back = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.back.weight = self.there.weight


MODELS = {
    "lstm": lambda: nn.LSTM(2, 3, num_layers=2, bidirectional=True, dropout=0.5),
    "lstm-projected": lambda: nn.LSTM(2, 4, proj_size=2),
    "gru": lambda: nn.GRU(2, 3),
    "tied": Tied,
    "weight-norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
    "spectral-norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3)),
    "batch-norm": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
    "batch-norm-cumulative": lambda: nn.BatchNorm1d(2, momentum=None),
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "parameter-list": lambda: nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]),
    "parameter-dict": lambda: nn.ParameterDict({"a": nn.Parameter(torch.ones(2))}),
    "embedding": lambda: nn.Embedding(5, 2, padding_idx=0, max_norm=1.0),
    "hidden": Hidden,
}


@pytest.mark.parametrize("name", MODELS)
def test_putting_back_never_changes_what_is_a_parameter(tmp_path, name):
    source, target = MODELS[name](), MODELS[name]()
    before = {key: id(each) for key, each in target.named_parameters(remove_duplicate=False)}
    attributes = {key: {*vars(module)} for key, module in target.named_modules()}
    taken(source, target, tmp_path)
    assert {key: id(each) for key, each in target.named_parameters(remove_duplicate=False)} == before
    assert {key: {*vars(module)} for key, module in target.named_modules()} == attributes
    assert all(isinstance(each, nn.Parameter) and each.requires_grad for each in target.parameters())
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key]), key


def test_the_flat_weights_of_an_lstm_stay_its_parameters(tmp_path):
    source, target = nn.LSTM(2, 3, num_layers=2), nn.LSTM(2, 3, num_layers=2)
    taken(source, target, tmp_path)
    assert [id(each) for each in target._flat_weights] == [id(each) for each in target.parameters()]
    inputs = torch.randn(4, 1, 2, generator=GENERATOR)
    assert torch.equal(source(inputs)[0], target(inputs)[0])
    optimizer = torch.optim.SGD(target.parameters(), lr=1.0)
    target(inputs)[0].sum().backward()
    optimizer.step()
    assert not torch.equal(source(inputs)[0], target(inputs)[0])


def torchmetrics_metrics():
    import torchmetrics

    options = {"task": "multiclass", "num_classes": 3}
    return {
        "accuracy": lambda: torchmetrics.Accuracy(**options),
        "auroc-that-keeps-all-scores": lambda: torchmetrics.AUROC(**options),
        "auroc-binned": lambda: torchmetrics.AUROC(**options, thresholds=5),
        "confusion": lambda: torchmetrics.ConfusionMatrix(**options),
        "calibration": lambda: torchmetrics.CalibrationError(**options),
        "collection": lambda: torchmetrics.MetricCollection(
            [torchmetrics.F1Score(**options), torchmetrics.Recall(**options)]
        ),
        "running": lambda: torchmetrics.wrappers.Running(torchmetrics.MeanMetric(), window=2),
        "classwise": lambda: torchmetrics.wrappers.ClasswiseWrapper(torchmetrics.Accuracy(**options, average="none")),
        "min-max": lambda: torchmetrics.wrappers.MinMaxMetric(torchmetrics.Accuracy(**options)),
    }


def built_in_metrics(built_in):
    return {
        "accuracy": lambda: built_in.build("metric", "accuracy", SPEC),
        "top-k": lambda: built_in.build("metric", "top-k", SPEC, k=2),
        "class-report": lambda: built_in.build("metric", "class-report", SPEC),
    }


def goes_on(make, tmp_path, batches):
    """Whether a metric that was saved after some batches tells in the end what one that was not tells."""
    source = make()
    for scores, targets in batches[:2]:
        source.update(scores, targets)
    target = carried(source, make(), tmp_path)
    assert unlike(source, target) == []
    figures = []
    for metric in (source, target):
        for scores, targets in batches[2:]:
            metric.update(scores, targets)
        figures.append(metric.compute())
        metric.reset()
    assert str(figures[0]) == str(figures[1])
    assert unlike(source, target) == []


BATCHES = [(SCORES[k : k + 10], TARGETS[k : k + 10]) for k in range(0, 40, 10)]


@pytest.mark.parametrize("name", ["accuracy", "auroc-that-keeps-all-scores", "auroc-binned", "confusion", "calibration",
                                  "collection", "classwise", "min-max"])  # fmt: skip
def test_a_metric_of_torchmetrics_goes_on(tmp_path, name):
    probabilities = [(scores.softmax(1), targets) for scores, targets in BATCHES]
    goes_on(torchmetrics_metrics()[name], tmp_path, probabilities)


def test_a_running_metric_of_torchmetrics_goes_on(tmp_path):
    make = torchmetrics_metrics()["running"]
    source = make()
    for number in (1.0, 2.0, 4.0):
        source.update(number)
    target = carried(source, make(), tmp_path)
    for metric in (source, target):
        metric.update(8.0)
    assert float(source.compute()) == float(target.compute()) == 6.0


@pytest.mark.parametrize("name", ["accuracy", "top-k", "class-report"])
def test_a_built_in_metric_goes_on(tmp_path, built_in, name):
    goes_on(built_in_metrics(built_in)[name], tmp_path, BATCHES)


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_a_built_in_metric_of_numbers_goes_on(tmp_path, built_in, name):
    spec = DataSpec((4,), "vector", "real", 3)
    batches = [(scores, scores.roll(1, 0) * 1.3) for scores, _ in BATCHES]
    goes_on(lambda: built_in.build("metric", name, spec), tmp_path, batches)


@pytest.mark.parametrize(
    "node",
    [
        None,
        [],
        "text",
        {"buffers": {"absent": 1}},
        {"buffers": 3},
        {"generators": {"count": 1}},
        {"generators": {"absent": 1}},
        {"values": {"function": 1}},
        {"values": {"update": 1}},
        {"values": []},
        {"objects": {"absent": {}}},
        {"objects": {"inner": 3}},
        {"objects": 3},
        {"values": {"count": {":pickle": 1}}},
    ],
    ids=str,
)
def test_a_node_of_something_else_is_unreadable(node):
    with pytest.raises(DecodeError):
        restore(Bag(), node, Decoder({}))


def test_a_generator_refuses_the_state_of_another_kind():
    source, target = Inner(), Inner()
    source.source, target.source = np.random.Generator(np.random.Philox(1)), np.random.Generator(np.random.PCG64(1))
    saved = state(source)
    with pytest.raises(DecodeError):
        restore(target, saved.node["root"], Decoder(saved.tensors))


class Slotted:
    __slots__ = ("__weakref__", "count", "inner", "never")

    def __init__(self):
        self.count, self.inner = 0, Inner()


def test_attributes_in_slots_are_attributes_too(tmp_path):
    source = Slotted()
    source.count = 4
    source.inner.grown.append(1)
    target = carried(source, Slotted(), tmp_path)
    assert (target.count, target.inner.grown) == (4, [1])


@dataclass(slots=True)
class Slim(Slotted):
    extra: torch.Tensor


def test_attributes_in_slots_of_several_classes_are_found(tmp_path):
    source, target, holders = Slim(torch.ones(2)), Slim(torch.zeros(2)), (Inner(), Inner())
    holders[0].slim, holders[1].slim = source, target
    source.count, source.inner = 3, Inner()
    target.count, target.inner = 0, Inner()
    carried(*holders, tmp_path)
    assert (target.count, target.extra.tolist()) == (3, [1, 1])


def test_attributes_of_an_optimizer_are_taken_beside_its_state_dict():
    class Counting(torch.optim.SGD):
        def __init__(self, params):
            super().__init__(params, lr=0.1, momentum=0.9)
            self.steps = 0
            self.own = torch.zeros(2)

    model = nn.Linear(2, 1)
    optimizer, other = Counting(model.parameters()), Counting(model.parameters())
    optimizer.steps, optimizer.own = 3, torch.ones(2)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    writer = Encoder()
    node = capture(optimizer, "optimizer", writer)
    assert set(node["values"]) == {"steps", "own"} | (set(node["values"]) - {"state", "param_groups", "defaults"})
    restore(other, node, Decoder(writer.tensors))
    assert other.steps == 3
    assert torch.equal(other.own, torch.ones(2))
    assert other.param_groups[0]["params"] == list(model.parameters())
