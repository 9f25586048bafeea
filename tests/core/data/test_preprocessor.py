import subprocess
import sys

import pytest
import torch

from ptb import DataSpec, Preprocessor, Sample


def of(target, size, **more):
    preprocessor = Preprocessor()
    preprocessor.spec = DataSpec((3,), "vector", target, size, **more)
    return preprocessor


def test_classes_are_decoded_into_names_and_probabilities():
    scores = torch.tensor([[0.0, 2.0, -1.0], [3.0, 0.0, 0.0]])
    columns = of("class", 3, class_names=("a", "b", "c")).decode(scores)
    softmax = scores.double().softmax(1)
    assert columns["prediction"] == ["b", "a"]
    assert torch.equal(columns["probability"], softmax.max(1).values)
    assert torch.equal(columns["probability:c"], softmax[:, 2])


@pytest.mark.parametrize(("logit", "prediction"), [(2.0, "yes"), (-2.0, "no"), (0.0, "no")])
def test_a_binary_probability_is_that_of_the_prediction(logit, prediction):
    columns = of("binary", 1, class_names=("no", "yes")).decode(torch.tensor([[logit]]))
    yes = torch.tensor(logit, dtype=torch.float64).sigmoid()
    assert columns["prediction"] == [prediction]
    torch.testing.assert_close(columns["probability"][0], yes if prediction == "yes" else 1 - yes)
    torch.testing.assert_close(columns["probability:yes"][0], yes)


def test_labels_above_one_half_are_joined():
    columns = of("multilabel", 3, class_names=("a", "b", "c")).decode(torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1, -1]]))
    assert columns["prediction"] == ["a|c", ""]
    assert [name for name in columns if name != "prediction"] == ["probability:a", "probability:b", "probability:c"]


def test_real_values_are_in_their_own_units():
    one = of("real", 1, target_mean=(250_000.0,), target_std=(80_000.0,))
    assert one.decode(torch.tensor([[0.0], [1.0]]))["prediction"].tolist() == [250_000, 330_000]
    assert one.decode_targets(torch.tensor([[-1.0]])).tolist() == [170_000]
    two = of("real", 2, class_names=("width", "height"), target_mean=(1.0, 2.0), target_std=(3.0, 4.0))
    columns = two.decode(torch.ones(1, 2))
    assert {name: values.tolist() for name, values in columns.items()} == {
        "prediction:width": [4],
        "prediction:height": [6],
    }


def test_values_at_positions_are_in_their_own_units():
    spec = {"positions": (2,), "target_mean": (1.0, 2.0), "target_std": (3.0, 4.0)}
    values = of("real", 2, **spec).decode(torch.ones(5, 2, 2))["prediction"]
    assert values.shape == (5, 2, 2)
    assert values[0].tolist() == [[4, 4], [6, 6]]


def test_other_targets_are_decoded_too():
    assert of("class", 3, positions=(4,)).decode(torch.eye(3)[:, :, None].expand(3, 3, 4))["prediction"].shape == (3, 4)
    assert list(of("distribution", 2).decode(torch.zeros(1, 2))) == ["probability:0", "probability:1"]
    embeddings = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert of("similarity", 2).decode(embeddings)["prediction"].tolist() == [1, 0]
    assert torch.equal(of("none", 3).decode(torch.ones(2, 3))["prediction"], torch.ones(2, 3))


@pytest.mark.parametrize(
    ("target", "size", "targets", "decoded"),
    [
        ("class", 3, torch.tensor([2, 0]), ["2", "0"]),
        ("binary", 1, torch.tensor([[1.0], [0.0]]), ["1", "0"]),
        ("multilabel", 3, torch.tensor([[1.0, 0.0, 1.0]]), ["0|2"]),
    ],
)
def test_targets_are_decoded_by_name_or_number(target, size, targets, decoded):
    assert of(target, size).decode_targets(targets) == decoded


def test_the_state_is_every_attribute_but_the_spec():
    one = of("class", 2)
    one.means = [1.0, 2.0]
    other = Preprocessor()
    other.load_state_dict(one.state_dict())
    assert vars(other) == {"means": [1.0, 2.0]}


def test_a_sample_has_inputs_or_an_error():
    assert Sample("a.png", error="no picture") == ("a.png", None, None, "no picture")


def test_importing_the_class_imports_no_torch():
    code = "import sys; from ptb import Preprocessor, Sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
