import pytest

from ptb import DataSpec, InputSpec

IMAGE = DataSpec((1, 16, 16), "image", "class", 3)
TOKENS = DataSpec((5,), "tokens", "class", 3, vocabulary=9)
TAKES = {"linear": IMAGE, "mlp": IMAGE, "lenet": IMAGE, "cnn": IMAGE, "resnet": IMAGE, "embedding-bag": TOKENS}


@pytest.mark.parametrize("name", TAKES)
def test_a_model_of_one_score_vector_refuses_targets_at_each_position_and_further_inputs(built_in, name):
    spec = TAKES[name]
    form = {"input_shape": spec.input_shape, "inputs": spec.inputs, "vocabulary": spec.vocabulary}
    built_in.build("model", name, spec)
    shape = spec.input_shape[-2:]
    with pytest.raises(ValueError, match=f"^{name} takes one target a sample, these are at each of "):
        built_in.build("model", name, DataSpec(**form, target="class", output_size=3, positions=shape))
    fields = {"age": InputSpec(()), "size": InputSpec((2,), "vector")}
    with pytest.raises(ValueError, match=f"^{name} has no use for the further inputs age, size; "):
        built_in.build("model", name, DataSpec(**form, target="class", output_size=3, fields=fields))
