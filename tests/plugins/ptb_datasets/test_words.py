from hypothesis import given
from hypothesis import strategies as st

from ptb_datasets.words import Vocabulary, words

texts = st.lists(st.text(max_size=30), min_size=1, max_size=8)


def test_words_are_lower_case_and_keep_an_inner_apostrophe():
    assert words("Don't STOP, it's 3 o'clock -- 'now'!") == ["don't", "stop", "it's", "3", "o'clock", "now"]


def test_the_frequent_come_first_and_the_alphabet_decides_between_equals():
    assert Vocabulary(["b b c", "c a b d"], 5).numbers == {"b": 2, "c": 3, "a": 4}


def test_a_text_is_cut_padded_and_its_unknown_words_are_1():
    known = Vocabulary(["a b"], 100)
    assert known.encode(["b a zebra a", "", "B"], 3).tolist() == [[3, 2, 1], [0, 0, 0], [3, 0, 0]]


@given(texts, texts, st.integers(3, 12), st.integers(1, 6))
def test_tokens_are_always_in_the_vocabulary(training, others, limit, length):
    known = Vocabulary(training, limit)
    tokens = known.encode(others, length)
    assert 2 <= len(known) <= limit
    assert tokens.shape == (len(others), length)
    assert tokens.min() >= 0
    assert tokens.max() < len(known)
