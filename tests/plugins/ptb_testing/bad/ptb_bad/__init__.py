from ptb import Command, Component, hookimpl


def named(module, *names, **more):
    """Components whose targets are the functions and classes of these names; a number tells two faults apart."""
    return [Component(name, f"ptb_bad.{module}:{name.replace('-', '_')}", summary="Bad", **more) for name in names]


@hookimpl
def ptb_provide_datasets():
    return named(
        "datasets",
        "builds-from-its-settings",
        "can-be-used",
        "same-seed-same-result",
        "samples-fit-the-spec",
        "samples-fit-the-spec-2",
        "samples-fit-the-spec-3",
        "samples-fit-the-spec-4",
        "reading-again-gives-the-same",
        "reading-again-gives-the-same-2",
        "pickles-for-workers",
        "transform-is-a-function",
        "transform-is-a-function-2",
        "transform-is-a-function-3",
        "augment-belongs-to-the-sample",
        "augment-belongs-to-the-sample-2",
        "augment-belongs-to-the-sample-3",
        "augment-belongs-to-the-sample-4",
        "augment-belongs-to-the-sample-5",
        "works-on-a-device",
        "works-on-a-device-2",
        "random-state-is-left-alone",
        "same-in-another-process",
        "same-in-another-process-2",
        "class-counts-are-those-of-train",
    )


@hookimpl
def ptb_provide_models():
    settings = {
        "builds-from-its-settings-5": "WidthOnly",
        "settings-agree-with-target": "OtherDefault",
        "settings-agree-with-target-2": "Nothing",
        "settings-can-be-read-2": "NoSchema",
        "settings-survive-a-config-file": "OwnBound",
    }
    return [
        Component("has-a-summary", "ptb_bad.models:plain"),
        Component("target-can-be-imported", "ptb_bad.models:nothing_of_this_name", "Bad"),
        Component("target-can-be-imported-2", "ptb_bad.exits:target", "Bad"),
        Component("settings-can-be-read", "ptb_bad.models:plain", "Bad", "ptb_bad.settings:NO_MODEL"),
        Component("importing-changes-nothing", "ptb_bad.at_import:plain", "Bad"),
        Component("registration-is-light", "ptb_bad.models:plain", "Bad", "ptb_bad.heavy_settings:Nothing"),
        *(
            Component(name, f"ptb_bad.models:{name.replace('-', '_')}", "Bad", f"ptb_bad.settings:{model}")
            for name, model in settings.items()
        ),
        *named(
            "models",
            "settings-are-described",
            "builds-from-its-settings",
            "builds-from-its-settings-2",
            "builds-from-its-settings-3",
            "builds-from-its-settings-4",
            "can-be-used",
            "same-seed-same-result",
            "random-state-is-left-alone",
            "switches-are-left-alone",
            "switches-are-left-alone-2",
            "fits-a-run",
            "fits-a-run-2",
            "fits-a-run-3",
            "fits-a-run-4",
            "eval-mode-is-a-function",
            "scores-are-raw",
            "scores-are-raw-2",
            "samples-do-not-mix",
            "inputs-are-left-alone",
            "state-survives-a-checkpoint",
            "state-survives-a-checkpoint-2",
            "state-survives-a-checkpoint-3",
            "moves-to-a-device",
        ),
    ]


@hookimpl
def ptb_provide_initializers():
    return named(
        "initializers",
        "builds-from-its-settings",
        "random-state-is-left-alone",
        "same-seed-same-result",
        "changes-values-only",
        "changes-values-only-2",
        "changes-values-only-3",
        "changes-values-only-4",
        "changes-values-only-5",
        "values-are-finite",
        "values-are-finite-2",
        "the-seed-has-an-effect",
        "works-on-a-device",
    )


@hookimpl
def ptb_provide_losses():
    return [
        *named("losses", "builds-from-its-settings", accepts=("class", "real")),
        *named(
            "losses",
            "random-state-is-left-alone",
            "fits-a-run",
            "fits-a-run-2",
            "gradient-reaches-the-scores",
            "gradient-reaches-the-scores-2",
            "arguments-are-left-alone",
            "same-value-in-evaluation",
            "batches-add-up",
            "batches-add-up-3",
            "batches-add-up-6",
            "batches-add-up-7",
            "state-survives-a-checkpoint",
            accepts=("real",),
        ),
        *named("losses", "batches-add-up-2", accepts=("binary",)),
        *named(
            "losses",
            "value-is-finite",
            "gradcheck",
            "moves-to-a-device",
            "batches-add-up-4",
            "batches-add-up-5",
            accepts=("class",),
        ),
    ]


@hookimpl
def ptb_provide_optimizers():
    return [
        Component("settings-can-be-read", "torch.optim:SGD", "Bad", "ptb_bad.settings:Groups"),
        *named(
            "optimizers",
            "builds-from-its-settings",
            "random-state-is-left-alone",
            "obeys-its-learning-rate",
            "lowers-a-quadratic",
            "takes-parameter-groups",
            "state-survives-a-checkpoint",
            "state-survives-a-checkpoint-2",
            "skips-parameters-without-gradient",
        ),
        *named("optimizers", "can-be-used", needs=("closure",)),
    ]


@hookimpl
def ptb_provide_schedulers():
    return named(
        "schedulers",
        "builds-from-its-settings",
        "learning-rates-are-valid",
        "learning-rates-are-valid-2",
        "works-with-any-optimizer",
        "leaves-weights-alone",
        "leaves-weights-alone-2",
        "leaves-weights-alone-3",
        "groups-keep-their-own-rates",
        "groups-keep-their-own-rates-2",
        "groups-keep-their-own-rates-3",
        "state-survives-a-checkpoint",
        "state-survives-a-checkpoint-2",
        "state-survives-a-checkpoint-3",
    )


@hookimpl
def ptb_provide_metrics():
    return named(
        "metrics",
        "builds-from-its-settings",
        "random-state-is-left-alone",
        "figures-are-finite",
        "figures-are-finite-2",
        "figures-are-finite-3",
        "arguments-are-left-alone",
        "instances-share-nothing",
        "batches-add-up",
        "batches-add-up-2",
        "batches-add-up-3",
        "reset-forgets",
        "computing-changes-nothing",
        "works-in-evaluation",
        "state-survives-a-checkpoint",
        "details-are-json",
        "details-are-json-2",
        "details-are-json-3",
        "works-on-a-device",
        accepts=("real",),
    )


@hookimpl
def ptb_provide_callbacks():
    return [
        *named(
            "callbacks",
            "has-an-event",
            "has-an-event-2",
            "has-an-event-3",
            "can-be-used",
            "weights-stay-the-same",
            "survives-an-error",
            role="observer",
        ),
        *named(
            "callbacks",
            "can-be-used-2",
            "can-be-used-3",
            "random-state-is-left-alone",
            "resumes-exactly",
            "step-is-taken-once",
            "evaluation-weights-are-put-back",
            "evaluation-weights-are-put-back-2",
            "survives-an-error-2",
            "state-survives-a-checkpoint",
            role="actor",
        ),
    ]


@hookimpl
def ptb_provide_commands():
    targets = {"run": "name_is_free", "plugins list": "name_is_free_2", "check twice": "name_is_free_3"}
    targets["bench"] = "name_is_free_4"
    for attribute in ("target_can_be_imported", "is_a_command", "has_help", "help_can_be_shown"):
        targets[attribute.replace("_", "-")] = attribute
    commands = [Command(name, f"ptb_bad.commands:{attribute}", "Bad") for name, attribute in targets.items()]
    return [*commands, Command("has-a-summary", "ptb_bad.commands:has_a_summary")]
