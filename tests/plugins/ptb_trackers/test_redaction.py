import json

from hypothesis import given
from hypothesis import strategies as st

from ptb_trackers.redaction import REPLACEMENT, Redaction

SECRET = "s3cr3t/with+signs"
ENVIRONMENT = {"ACME_API_KEY": SECRET, "DB_PASSWORD": "short1", "PIN_TOKEN": "123456789", "HOME": "/home/somebody"}


def test_secrets_are_replaced_wherever_they_stand():
    redaction = Redaction(ENVIRONMENT)
    config = {
        "dataset": {"url": f"https://host/{SECRET}?x=1", "password": "short1", "pin": 123456789, "on": True},
        f"key-{SECRET}": [SECRET, {"deep": ["x", f"a{SECRET}b"]}],
        "encoded": "s3cr3t%2Fwith%2Bsigns",
        "home": "/home/somebody",
        "loss": 0.5,
        "none": None,
    }
    assert redaction.clean(config) == {
        "dataset": {"url": f"https://host/{REPLACEMENT}?x=1", "password": REPLACEMENT, "pin": REPLACEMENT, "on": True},
        f"key-{REPLACEMENT}": [REPLACEMENT, {"deep": ["x", f"a{REPLACEMENT}b"]}],
        "encoded": REPLACEMENT,
        "home": "/home/somebody",
        "loss": 0.5,
        "none": None,
    }
    assert redaction.replaced == {"ACME_API_KEY", "DB_PASSWORD", "PIN_TOKEN"}


def test_a_short_secret_is_replaced_only_where_it_is_the_whole_value():
    redaction = Redaction({"A_KEY": "adam", "B_KEY": "abc"})
    assert redaction.clean({"name": "adam", "other": "adamw", "third": "abc"}) == {
        "name": REPLACEMENT,
        "other": "adamw",
        "third": "abc",
    }


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it():
    redaction = Redaction({"A_TOKEN": "abcdefgh", "B_SECRET": "abcdefghijkl"})
    assert redaction.clean("x abcdefghijkl y") == f"x {REPLACEMENT} y"


def test_the_password_in_an_address_is_replaced():
    assert Redaction({}).clean("postgres://me:pass@host/db") == f"postgres://me:{REPLACEMENT}@host/db"
    assert Redaction({}).clean("http://host:5000/a@b") == "http://host:5000/a@b"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    st.text(min_size=8, max_size=12),
)
def test_no_secret_is_left_and_nothing_else_changes(value, secret):
    redaction = Redaction({"SOME_SECRET": secret})
    cleaned = redaction.clean({"value": value, "text": f"<{secret}>"})
    assert secret not in cleaned["text"]
    if secret not in json.dumps(value, ensure_ascii=False) and "://" not in json.dumps(value):
        assert cleaned["value"] == value
