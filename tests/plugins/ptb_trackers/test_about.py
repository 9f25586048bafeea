import json

from ptb import RunRecord
from ptb_trackers.about import describe, flat, outcome
from ptb_trackers.redaction import Redaction


def test_a_run_is_described_by_its_files(made):
    run = made(tags=["baseline", "small"])
    about = describe(RunRecord(run), Redaction({}))
    assert (about.id, about.name, about.tags) == ("0123456789abcdef", "mine", ["baseline", "small"])
    assert about.config["model"] == {"name": "mlp", "hidden": [8]}
    assert about.parameters["optimizer.lr"] == 0.01
    assert about.parameters["model.hidden"] == "[8]"
    ended = outcome(RunRecord(run), Redaction({}))
    assert (ended.status, ended.facts["step"], ended.metrics["test/loss"]) == ("finished", 20, 0.25)


def test_a_run_without_a_summary_has_not_ended(made):
    assert outcome(RunRecord(made(status=None)), Redaction({})) is None


def test_a_damaged_manifest_stops_nothing(made):
    run = made()
    (run / "manifest.json").write_text('{"tags": 3, "name": null}')
    about = describe(RunRecord(run), Redaction({}))
    assert (about.id, about.name, about.tags) == ("mine", "mine", [])


def test_name_tags_settings_and_reason_hold_no_secret(made):
    secret = "planted-secret-value"
    run = made(name="first", callbacks=f'[dataset]\npath = "/{secret}/x"\n', tags=[secret])
    (run / "manifest.json").write_text(json.dumps({"run": "1", "name": f"a {secret}", "tags": [secret]}))
    (run / "summary.json").write_text(json.dumps({"status": "failed", "reason": f"cannot open {secret}"}))
    redaction = Redaction({"MY_TOKEN": secret})
    about, ended = describe(RunRecord(run), redaction), outcome(RunRecord(run), redaction)
    assert secret not in repr(about) + repr(ended)
    assert redaction.replaced == {"MY_TOKEN"}


def test_leaves_are_named_by_dotted_keys():
    assert flat({"a": {"b": 1, "c": {"d": True}}, "e": [1, {"f": 2}], "g": "x"}) == {
        "a.b": 1,
        "a.c.d": True,
        "e": '[1, {"f": 2}]',
        "g": "x",
    }
