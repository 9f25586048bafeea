from ptb import Command, Component, hookimpl


def named(module, *names, **more):
    """Components whose targets are the functions and classes of these names; a number tells two faults apart."""
    return [Component(name, f"ptb_bad.{module}:{name.replace('-', '_')}", summary="Bad", **more) for name in names]


@hookimpl
def ptb_provide_datasets():
    return named(
        "datasets",
        "fits-a-run",
        "fits-a-run-2",
        "resumes-exactly",
        "fits-a-run-3",
        "fits-a-run-4",
        "inputs-have-usual-types",
        "fits-a-run-5",
        "resumes-exactly-2",
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
        "preprocessor-keeps-its-state",
        "preprocessor-keeps-its-state-2",
        "preprocessor-keeps-its-state-3",
        "preprocessor-keeps-its-state-4",
        "preprocessor-keeps-its-state-5",
        "preprocessor-keeps-its-state-6",
        "preprocessor-decodes",
        "preprocessor-decodes-2",
        "preprocessor-decodes-3",
        "preprocessor-decodes-4",
        "preprocessor-reads-training-samples",
        "preprocessor-reads-training-samples-2",
        "preprocessor-reads-training-samples-3",
        "preprocessor-reads-training-samples-4",
    )


@hookimpl
def ptb_provide_models():
    settings = {
        "fits-a-run": "WidthOnly",
        "settings-agree-with-target": "OtherDefault",
        "settings-agree-with-target-2": "Nothing",
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
            "fits-a-run-2",
            "fits-a-run-3",
            "fits-a-run-4",
            "fits-a-run-5",
            "fits-a-run-6",
            "resumes-exactly-3",
            "random-state-is-left-alone",
            "switches-are-left-alone",
            "switches-are-left-alone-2",
            "fits-a-run-7",
            "fits-a-run-8",
            "fits-a-run-9",
            "fits-a-run-10",
            "eval-mode-is-a-function",
            "scores-are-raw",
            "scores-are-raw-2",
            "samples-do-not-mix",
            "inputs-are-left-alone",
            "resumes-exactly",
            "resumes-exactly-2",
            "fits-a-run-11",
            "moves-to-a-device",
        ),
    ]


@hookimpl
def ptb_provide_initializers():
    return named(
        "initializers",
        "fits-a-run",
        "random-state-is-left-alone",
        "resumes-exactly",
        "changes-values-only",
        "fits-a-run-4",
        "changes-values-only-3",
        "changes-values-only-4",
        "changes-values-only-2",
        "fits-a-run-2",
        "fits-a-run-3",
        "the-seed-has-an-effect",
        "works-on-a-device",
    )


@hookimpl
def ptb_provide_losses():
    return [
        *named("losses", "fits-a-run", accepts=("class", "real")),
        *named(
            "losses",
            "random-state-is-left-alone",
            "fits-a-run-2",
            "fits-a-run-4",
            "fits-a-run-5",
            "arguments-are-left-alone",
            "same-value-in-evaluation",
            "batches-add-up",
            "batches-add-up-3",
            "batches-add-up-5",
            "batches-add-up-6",
            "resumes-exactly",
            accepts=("real",),
        ),
        *named("losses", "batches-add-up-2", accepts=("binary",)),
        *named(
            "losses",
            "gradient-reaches-the-scores",
            "gradcheck",
            "moves-to-a-device",
            "batches-add-up-4",
            "fits-a-run-3",
            accepts=("class",),
        ),
    ]


@hookimpl
def ptb_provide_optimizers():
    return [
        Component("settings-can-be-read", "torch.optim:SGD", "Bad", "ptb_bad.settings:Groups"),
        *named(
            "optimizers",
            "fits-a-run",
            "obeys-its-learning-rate",
            "lowers-the-loss",
            "takes-parameter-groups",
            "resumes-exactly",
            "fits-a-run-3",
            "skips-parameters-without-gradient",
        ),
        *named("optimizers", "fits-a-run-2", needs=("closure",)),
    ]


@hookimpl
def ptb_provide_schedulers():
    return named(
        "schedulers",
        "fits-a-run",
        "learning-rates-are-valid",
        "fits-a-run-3",
        "fits-a-run-2",
        "leaves-weights-alone",
        "leaves-weights-alone-2",
        "leaves-weights-alone-3",
        "groups-keep-their-own-rates",
        "groups-keep-their-own-rates-2",
        "groups-keep-their-own-rates-3",
        "resumes-exactly",
        "fits-a-run-4",
        "resumes-exactly-2",
    )


@hookimpl
def ptb_provide_metrics():
    return named(
        "metrics",
        "fits-a-run",
        "random-state-is-left-alone",
        "figures-are-finite",
        "fits-a-run-2",
        "figures-are-finite-2",
        "arguments-are-left-alone",
        "resumes-exactly-2",
        "batches-add-up",
        "batches-add-up-2",
        "batches-add-up-3",
        "reset-forgets",
        "computing-changes-nothing",
        "works-in-evaluation",
        "resumes-exactly",
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
            "fits-a-run",
            "weights-stay-the-same",
            "survives-an-error",
            role="observer",
        ),
        *named(
            "callbacks",
            "fits-a-run-2",
            "fits-a-run-3",
            "random-state-is-left-alone",
            "resumes-exactly",
            "step-is-taken-once",
            "resumes-exactly-3",
            "evaluation-weights-are-put-back",
            "saves-what-is-evaluated",
            "survives-an-error-2",
            "resumes-exactly-2",
            role="actor",
        ),
    ]


@hookimpl
def ptb_provide_plots():
    return [
        *named(
            "plots",
            "gives-a-figure-or-a-chart",
            "gives-a-figure-or-a-chart-2",
            "draws-the-same-twice",
            "leaves-runs-alone",
            "leaves-runs-alone-2",
            "leaves-pyplot-alone",
            "leaves-pyplot-alone-2",
            "draws-in-a-thread",
            "draws-unusual-values",
            "takes-several-runs-or-says-so",
            accepts=("class",),
            needs=("history",),
        ),
        *named("plots", "needs-suffice", "needs-suffice-2", accepts=("class",)),
    ]


@hookimpl
def ptb_provide_commands():
    targets = {"run": "name_is_free", "plugins list": "name_is_free_2", "check twice": "name_is_free_3"}
    targets["bench"] = "name_is_free_4"
    for attribute in ("target_can_be_imported", "is_a_command", "has_help", "help_can_be_shown"):
        targets[attribute.replace("_", "-")] = attribute
    commands = [Command(name, f"ptb_bad.commands:{attribute}", "Bad") for name, attribute in targets.items()]
    return [*commands, Command("has-a-summary", "ptb_bad.commands:has_a_summary")]
