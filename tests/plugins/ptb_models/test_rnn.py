import pytest
import torch
from torch import nn

from ptb import ConfigError, DataSpec, InputSpec
from ptb_models.rnn import RNN

LENGTHS = torch.tensor([7, 1, 4, 5])
LENGTH, VOCABULARY = 7, 9
every_form = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
every_cell = pytest.mark.parametrize("cell", ["lstm", "gru"])
per_position = pytest.mark.parametrize("positions", [(), (LENGTH,)], ids=["sequence", "positions"])


def tokens_spec(positions=(), padding=0):
    return DataSpec((LENGTH,), "tokens", "class", 3, vocabulary=VOCABULARY, padding=padding, positions=positions)


def arrays_spec(positions=(), fields=None):
    return DataSpec((LENGTH, 5), "array", "class", 3, positions=positions, fields=fields or {})


def tokens():
    batch = torch.randint(1, VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(0))
    return batch.masked_fill(torch.arange(LENGTH) >= LENGTHS[:, None], 0)


def arrays():
    return torch.randn(4, LENGTH, 5, generator=torch.Generator().manual_seed(0))


def built(spec, **settings):
    torch.manual_seed(1)
    return RNN(spec, hidden=6, embedding_dim=4, **settings).eval()


@every_cell
@every_form
@per_position
@pytest.mark.parametrize("layers", [1, 3])
def test_padding_changes_nothing(cell, bidirectional, positions, layers):
    model = built(tokens_spec(positions), cell=cell, bidirectional=bidirectional, layers=layers)
    together = model(tokens())
    assert together.shape == (4, 3, *positions)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(tokens()[row : row + 1, :length])
        torch.testing.assert_close(
            together[row : row + 1, ..., :length] if positions else together[row : row + 1], alone
        )


@every_cell
@every_form
@per_position
def test_what_comes_after_the_length_changes_nothing(cell, bidirectional, positions):
    spec = arrays_spec(positions, {"lengths": InputSpec(())})
    model = built(spec, cell=cell, bidirectional=bidirectional)
    noise = torch.where((torch.arange(LENGTH) < LENGTHS[:, None]).unsqueeze(2), arrays(), 1e3)
    one, other = (model({"inputs": each, "lengths": LENGTHS}) for each in (arrays(), noise))
    kept = torch.arange(LENGTH) < LENGTHS[:, None] if positions else slice(None)
    one, other = (each.movedim(1, -1)[kept] for each in (one, other))
    torch.testing.assert_close(one, other)
    as_floats = model({"inputs": noise, "lengths": LENGTHS.float()[:, None]})
    torch.testing.assert_close(as_floats.movedim(1, -1)[kept], one)


@every_cell
@every_form
@pytest.mark.parametrize("layers", [1, 2])
def test_without_dropout_it_is_torch_s_own_of_so_many_layers(cell, bidirectional, layers):
    model = built(arrays_spec((LENGTH,)), cell=cell, bidirectional=bidirectional, layers=layers)
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    own = kind(5, 6, layers, batch_first=True, bidirectional=bidirectional)
    state = {}
    for number, layer in enumerate(model.layers):
        state |= {name.replace("_l0", f"_l{number}"): value for name, value in layer.state_dict().items()}
    own.load_state_dict(state)
    outputs, last = own(arrays())
    torch.testing.assert_close(model(arrays()), model.head(outputs).transpose(1, 2))
    one = built(arrays_spec(), cell=cell, bidirectional=bidirectional, layers=layers)
    last = last[0] if cell == "lstm" else last
    ends = torch.cat(list(last[-2:] if bidirectional else last[-1:]), 1)
    torch.testing.assert_close(one(arrays()), one.head(ends))


def test_order_matters_and_padding_inside_a_sequence_is_a_token():
    model = built(tokens_spec())
    batch = torch.tensor([[1, 2, 3, 0, 0, 0, 0], [3, 2, 1, 0, 0, 0, 0], [1, 2, 0, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]])
    scores = model(batch)
    assert len({tuple(row) for row in scores.tolist()}) == 4
    torch.testing.assert_close(scores[2:3], model(batch[2:3, :4]))


@per_position
def test_without_padding_or_lengths_nothing_has_to_be_known_of_the_device(positions):
    with torch.device("meta"):
        model = RNN(tokens_spec(positions, padding=None), bidirectional=True, layers=2)
        assert model(torch.zeros(4, LENGTH, dtype=torch.int64)).shape == (4, 3, *positions)


@per_position
def test_dropout_acts_on_every_layer_in_training_alone(positions):
    model = built(tokens_spec(positions), dropout=0.5, layers=2)
    assert torch.equal(model(tokens()), model(tokens()))
    model.train()
    assert not torch.equal(model(tokens()), model(tokens()))
    seen = []
    model.layers[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].data))
    model(tokens())
    assert 0.2 < float((seen[0] == 0).float().mean()) < 0.8


@every_cell
@per_position
def test_gradients_reach_every_parameter(cell, positions):
    model = built(tokens_spec(positions), cell=cell, bidirectional=True, layers=2).train()
    model(tokens()).logsumexp(1).sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec((8,), "vector", "class", 3), r"rnn takes tokens .* kind 'vector', \(8,\)"),
        (DataSpec((1, 8, 8), "image", "class", 3), "rnn takes tokens"),
        (tokens_spec((3,)), r"these are at \(3,\) positions"),
        (arrays_spec(fields={"age": InputSpec(())}), "no use for the further inputs age"),
    ],
    ids=["vector", "image", "positions", "fields"],
)
def test_what_is_no_sequence_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        RNN(spec)


@pytest.mark.parametrize("settings", [{"layers": 0}, {"dropout": 1.0}, {"cell": "rnn"}], ids=str)
def test_settings_out_of_range_are_refused(built_in, settings):
    with pytest.raises(ConfigError, match=f"model.{next(iter(settings))}"):
        built_in.build("model", "rnn", tokens_spec(), **settings)
