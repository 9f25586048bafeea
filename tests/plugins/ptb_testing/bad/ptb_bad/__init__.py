from ptb import Component, hookimpl


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
        "inputs-suit-a-model",
        "reading-again-gives-the-same",
        "reading-draws-nothing",
        "pickles-for-workers",
        "prepare-is-a-function",
        "prepare-is-a-function-2",
        "prepare-is-a-function-3",
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
        "target-takes-the-call": "WidthOnly",
        "settings-agree-with-target": "OtherDefault",
        "settings-agree-with-target-2": "Nothing",
        "schema-is-json": "NoSchema",
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
            "scores-have-the-right-form",
            "scores-have-the-right-form-2",
            "eval-mode-is-a-function",
            "scores-are-raw",
            "scores-are-raw-2",
            "gradients-are-finite",
            "gradients-are-finite-2",
            "samples-do-not-mix",
            "inputs-are-left-alone",
            "state-dict-round-trip",
            "state-dict-round-trip-2",
            "moves-to-a-device",
            "works-in-float64",
        ),
    ]


@hookimpl
def ptb_provide_initializers():
    return named(
        "initializers",
        "builds-from-its-settings",
        "random-state-is-left-alone",
        "same-seed-same-result",
        "returns-nothing",
        "parameters-stay-the-same-objects",
        "parameters-stay-the-same-objects-2",
        "touches-parameters-only",
        "touches-parameters-only-2",
        "values-are-finite",
        "scores-are-finite",
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
            "value-has-the-right-form",
            "value-has-the-right-form-2",
            "gradient-reaches-the-scores",
            "arguments-are-left-alone",
            "works-on-one-sample",
            "order-of-samples-does-not-matter",
            "same-value-in-evaluation",
            "batches-add-up",
            "batches-add-up-3",
            "has-nothing-to-train",
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
            "resumes-exactly",
            "state-is-plain",
            "skips-parameters-without-gradient",
        ),
        *named("optimizers", "can-be-used", needs=("closure",)),
    ]


@hookimpl
def ptb_provide_schedulers():
    return named(
        "schedulers",
        "builds-from-its-settings",
        "runs-to-the-end",
        "learning-rates-are-valid",
        "drives-every-group",
        "works-with-any-optimizer",
        "leaves-weights-alone",
        "leaves-weights-alone-2",
        "leaves-weights-alone-3",
        "groups-keep-their-own-rates",
        "groups-keep-their-own-rates-2",
        "resumes-exactly",
        "state-is-json",
    )


@hookimpl
def ptb_provide_metrics():
    return named(
        "metrics",
        "builds-from-its-settings",
        "random-state-is-left-alone",
        "figure-is-a-finite-number",
        "figure-is-a-finite-number-2",
        "arguments-are-left-alone",
        "instances-share-nothing",
        "batches-add-up",
        "works-on-one-sample",
        "order-of-samples-does-not-matter",
        "reset-forgets",
        "computing-changes-nothing",
        "works-in-evaluation",
        "details-are-json",
        "details-are-json-2",
        "details-are-json-3",
        "works-on-a-device",
        accepts=("real",),
    )
