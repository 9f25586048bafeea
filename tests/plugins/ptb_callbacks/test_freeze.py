from itertools import islice

import pytest
import torch
from torch import nn

from ptb import ConfigError
from ptb_callbacks.ema import Ema
from ptb_callbacks.freeze import Freeze

FIRST = ("0.*", "1.*")  # the linear layer and its batch norm
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.01, weight_decay=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.01, fused=True),
}


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def plain_loop(trainer, epochs, until):
    """The same training in plain PyTorch, with the objects of a trainer that does not train."""
    model, optimizer, loss = trainer.model, trainer.optimizer, nn.CrossEntropyLoss()
    clip = trainer.settings.clip_norm
    for epoch in range(1, epochs + 1):
        model.train()
        for module in (model[0], model[1]):
            module.requires_grad_(epoch >= until)
        model[1].train(epoch >= until)
        batches = trainer.train_loader.epoch(epoch)
        while group := list(islice(batches, 2)):
            optimizer.zero_grad()
            samples = sum(batch.size for batch in group)
            for inputs, targets, _ in group:
                (loss(model(inputs), targets) * (len(targets) / samples)).backward()
            nn.utils.clip_grad_norm_([each for each in model.parameters() if each.grad is not None], clip)
            optimizer.step()
            trainer.scheduler.step()
    return copied(model)


@pytest.mark.parametrize(("optimizer", "until"), [("sgd", 2), ("adamw", 2), ("adam", 2), ("sgd", 3), ("sgd", None)])
def test_it_is_what_plain_pytorch_does(make, optimizer, until):
    options = {"optimizer": OPTIMIZERS[optimizer], "clip_norm": 0.3, "epochs": 3}
    trainer = make(actors={"freeze": Freeze(match=FIRST, until_epoch=until)}, **options)
    trainer.fit()
    mine = copied(trainer.model)
    assert_equal(mine, plain_loop(make(**options), 3, until or 4))


def test_a_learning_rate_of_0_is_not_a_freeze(make):
    """As the pages say: statistics of batch norm move, and its gradients count in the norm that is clipped."""

    def standing(parameters):
        every = list(parameters)
        return torch.optim.SGD([{"params": every[:4], "lr": 0.0}, {"params": every[4:]}], 0.1)

    trainers = [
        make(optimizer=standing, clip_norm=0.01, **more) for more in ({}, {"actors": {"freeze": Freeze(match=FIRST)}})
    ]
    before = copied(trainers[0].model)
    for trainer in trainers:
        trainer.fit()
    still, frozen = (copied(trainer.model) for trainer in trainers)
    assert all(torch.equal(still[name], before[name]) for name in ("0.weight", "0.bias", "1.weight", "1.bias"))
    assert not torch.equal(still["1.running_mean"], before["1.running_mean"])
    assert torch.equal(frozen["1.running_mean"], before["1.running_mean"])
    (head,) = (name for name in before if name.endswith("weight") and name[0] not in "01")
    moved, wanted = ((each[head] - before[head]).norm() for each in (still, frozen))
    assert moved < 0.99 * wanted  # the same clip leaves less of the gradients of the head


def test_frozen_weights_and_statistics_keep_every_bit(make):
    trainer = make(actors={"freeze": Freeze(match=FIRST)}, eval_steps=1, clip_norm=1.0)
    before = copied(trainer.model)
    trainer.fit()
    after = copied(trainer.model)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith(("0.", "1."))}
    assert all(each.grad is None for each in (*trainer.model[0].parameters(), *trainer.model[1].parameters()))


def test_gradients_from_before_are_dropped(make):
    trainer = make()
    trainer.model(torch.ones(3, 4)).sum().backward()
    Freeze(match=FIRST).on_fit_start(trainer)
    assert {name[0] for name, each in trainer.model.named_parameters() if each.grad is not None} == {"4"}


def test_it_is_left_out_of_the_norm_that_is_clipped(make):
    """With all gradients in it, the norm would be another one, and so would the step."""
    trainer = make(actors={"freeze": Freeze(match=FIRST)}, clip_norm=1e-3, optimizer=lambda p: torch.optim.SGD(p, 1.0))
    before = copied(trainer.model)
    trainer.fit(stop_after=1)
    moved = [(value - before[name]).square().sum() for name, value in trainer.model.state_dict().items()]
    assert torch.stack(moved).sum().sqrt() == pytest.approx(1e-3, rel=1e-3)


def test_the_state_of_the_optimizer_holds_nothing_of_them(make):
    trainer = make(actors={"freeze": Freeze(match=FIRST)}, optimizer=OPTIMIZERS["adamw"])
    trainer.fit()
    assert set(trainer.optimizer.state) == set(trainer.model[4].parameters())


def test_it_trains_everything_from_its_epoch_on(make):
    trainer = make(actors={"freeze": Freeze(match=FIRST, until_epoch=2)})
    before = copied(trainer.model)
    trainer.fit(stop_after=4)  # the whole first epoch
    assert torch.equal(trainer.model[0].weight, before["0.weight"])
    trainer.fit()
    assert not torch.equal(trainer.model[0].weight, before["0.weight"])
    assert trainer.model[1].num_batches_tracked == 8


@pytest.mark.parametrize(("until", "optimizer"), [(None, "adamw"), (2, "sgd")])
def test_it_resumes_bit_for_bit_after_every_step(make, assert_resumes, until, optimizer):
    def build():
        actors = {"ema": Ema(), "freeze": Freeze(match=FIRST, until_epoch=until)}
        return make(actors=actors, optimizer=OPTIMIZERS[optimizer], eval_steps=1)

    assert_resumes(build)


def test_the_order_of_two_that_overlap_does_not_matter(make, assert_resumes):
    freeze = {"a": ("0.*", 2), "b": ("?.weight", 3)}
    ends = []
    for labels in ("ab", "ba"):
        actors = [(label, *freeze[label]) for label in labels]

        def build(actors=actors):
            built = {label: Freeze(match=[match], until_epoch=until) for label, match, until in actors}
            return make(actors=built, epochs=3, net=lambda: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)))

        if labels == "ba":
            assert_resumes(build)
        trainer = build()
        before = copied(trainer.model)
        trainer.fit(stop_after=8)
        assert torch.equal(trainer.model[0].weight, before["0.weight"])
        assert not torch.equal(trainer.model[0].bias, before["0.bias"])
        trainer.fit()
        assert not torch.equal(trainer.model[0].weight, before["0.weight"])
        ends.append(copied(trainer.model))
    assert_equal(*ends)


def test_what_the_model_has_frozen_itself_stays_frozen(make):
    def net():
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        model[0].bias.requires_grad_(False)
        return model

    trainer = make(net, actors={"freeze": Freeze(match=["0.*"], until_epoch=2)})
    trainer.fit()
    assert [each.requires_grad for each in trainer.model.parameters()] == [True, False, True, True]


@pytest.mark.parametrize(
    ("layer", "match", "is_frozen"),
    [
        (nn.BatchNorm1d(8), ["1.*"], True),
        (nn.BatchNorm1d(8), ["1.weight", "1.bias"], True),
        (nn.BatchNorm1d(8), ["1.weight"], False),
        (nn.BatchNorm1d(8), ["1.running_mean"], True),
        (nn.BatchNorm1d(8, affine=False), ["1.*"], True),
        (nn.BatchNorm1d(8, affine=False), ["0.*"], False),
        (
            nn.Sequential(nn.Unflatten(1, (2, 4)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()),
            ["1.*"],
            True,
        ),
    ],
)
def test_statistics_are_frozen_with_all_parameters_of_their_layer(make, layer, match, is_frozen):
    trainer = make(lambda: nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 2)), actors={"f": Freeze(match=match)})
    before = copied(trainer.model)
    trainer.fit()
    after = copied(trainer.model)
    statistics = [name for name in before if "running" in name]
    assert [torch.equal(before[name], after[name]) for name in statistics] == [is_frozen] * 2


def test_a_pattern_that_matches_nothing_is_refused_with_the_names_that_there_are(make):
    trainer = make(actors={"freeze": Freeze(match=["0.*", "features.*"])})
    with pytest.raises(ConfigError, match=r"'features\.\*' in match matches nothing; there are: 0\.weight, 0\.bias, "):
        trainer.fit()
    assert trainer.state.step == 0


def test_everything_at_once_is_refused(make):
    for actors in ({"a": Freeze(match=["*"])}, {"a": Freeze(match=FIRST), "b": Freeze(match=["4.*"])}):
        with pytest.raises(ConfigError, match=r"nothing is left to train with match=.*; parameters are: 0\.weight, "):
            make(actors=actors).fit()


def test_an_epoch_that_never_comes_is_refused(make):
    trainer = make(actors={"freeze": Freeze(match=FIRST, until_epoch=3)})
    with pytest.raises(ConfigError, match=r"until_epoch=3 never comes with trainer\.epochs=2; leave it out"):
        trainer.fit()
