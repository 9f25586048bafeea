"""Writes the reference pages that follow from the code: hooks, components, config, commands and the Python API.

::

    python docs/reference/generate.py           write the pages
    python docs/reference/generate.py --check   write nothing; exit 1 and name the pages that are stale

The pages depend on ptb alone: plugins of others are not loaded, signatures are printed as the source writes them, and
the help of the commands is set to a fixed width.
"""

import ast
import copy
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

import ptb
from ptb.cli import main as ptb_command
from ptb.cli.commands import REGISTRY, PluginCommand
from ptb.config.files import MAX_FILE_BYTES
from ptb.config.layers import FLAGS
from ptb.config.sections import CORE_SECTIONS, SHARED_SECTIONS, ParameterGroup, RunSettings
from ptb.errors import PtbError
from ptb.kinds import KINDS, RUN_KINDS, TARGET_KINDS
from ptb.registry import hookspecs
from ptb.registry.contract import HOOKS
from ptb.registry.discovery import find_plugins, load_plugin
from ptb.registry.entry import RegisteredComponent
from ptb.registry.registry import PluginInfo, Registry
from ptb.training.callbacks import EVENTS, Callback
from ptb_list.describe import describe

FOLDER = Path(__file__).parent
HELP_WIDTH = 96
MARK = "<!-- Written by docs/reference/generate.py: change the code or the generator, not this page. -->"
TITLES = {
    "dataset": "Data sets",
    "model": "Models",
    "initializer": "Initializers",
    "loss": "Losses",
    "optimizer": "Optimizers",
    "scheduler": "Schedulers",
    "metric": "Metrics",
    "callback": "Callbacks",
    "plot": "Plots",
}

HOOKS_INTRO = """\
A plugin is an installed distribution with an entry point in the group `ptb`. The entry point names a module; the module
implements any of the hooks below as functions marked with `@hookimpl`. Each hook takes nothing and returns an iterable
of [`Component`](python.md#component), the last one of [`Command`](python.md#command). A plugin is rejected if it marks
a function `ptb_...` that is no hook, if a hook has a parameter, or if a function `ptb_provide_...` is not marked; see
[how to write a plugin](../how-to/write-a-plugin.md)."""

HOOKS_EVENTS = """\
## Events of callbacks

The methods that an object of the kind `callback` may have, in the order in which they are called at a boundary. Each
gets the `trainer`: `model`, `optimizer`, `scheduler`, `settings` (the section `trainer`, which nobody can change),
`device`, `state` (`epoch`, `step`, `should_stop`, `stopped_early`, `metrics`), `run` and `request_checkpoint(label)`.
`run.path` is the run directory; `run` is None where nothing is recorded: in the kit, and in other processes than the
first. An observer gets copies, made when it asks for them; what it raises is a warning and ends nothing.
`state.metrics` has the figures of the last evaluation by `SPLIT/LABEL`; actors, whose `on_epoch_end` comes before the
rows, see those of the epoch before.

An actor ends a run in two ways. `state.stopped_early = True`, set in `on_evaluation`, ends it after the epoch as
`trainer.patience` does: the test split is measured, and the run is finished. `state.should_stop = True` stops it after
the step: it is saved as interrupted, the command ends with 0, and `ptb resume` goes on with it."""

HOOKS_ACTORS = """\
An actor may also have these:

| member | what it is |
| --- | --- |
| `around_step(trainer, step)` | Called in place of each step; calls `step()` or `step.replace(pieces)()`. |
| `evaluation_weights(trainer)` | A context manager around evaluation, the saved weights and `weights_sha256`. |

`step.micro_batches` is a list of batches, on the host or on the device. Each has `inputs`, `targets`, `weights`
(tensors, dicts of tensors, or None), `size`, and `map(function)`, the batch of `function(tensor)` for each tensor: a
piece is `batch.map(lambda tensor: tensor[:8])`. The pieces must hold the samples of the step, each once. An actor
reaches the loss as `trainer.objective.loss`. Gradients of the whole step, before the optimizer takes it, are there in a
hook of the optimizer (`register_step_pre_hook` in `on_fit_start`).

The weights that are evaluated at the end of an epoch are those that are saved, if an actor changes them in
`on_step_end` or before: its `on_evaluation` and `on_epoch_end` come between the two. Where several actors have
`evaluation_weights`, those of the last one count. With `--nproc` an actor is called in every process, and must do the
same in each: what it draws from `torch.randn` differs, what it draws from a generator with a seed of its own does not.

At the end of an epoch: evaluation, `on_evaluation` of the scheduler and of actors, best and patience, `on_epoch_end` of
actors, metrics rows, observers, checkpoint, `on_checkpoint`. Several actors are called in the order that `before` and
`after` of their `Component` ask for, and in that of their labels otherwise.

A method that begins with `on_` and is none of these is an error: it would never be called. A label of
`request_checkpoint` is made of letters, digits, `.`, `_` and `-`, and
is no number; `best` and `last` are those of the run."""

COMPONENTS_INTRO = """\
The components that ptb brings along. `ptb list` shows these and those of the installed plugins, `ptb show KIND NAME`
shows one. A setting is written in the section of its kind: `size` of the data set is `dataset.size`; a metric's section
is `metrics.LABEL`, that of a callback `callbacks.LABEL`. The section `optimizer` has
[two keys more](config.md#optimizer), which every optimizer shares."""

PLOTS_INTRO = """\
A plot reads run directories. It belongs to no configuration: its settings are written as `KEY=VALUE` behind
`ptb plot NAME RUN`."""

CONFIG_INTRO = f"""\
A configuration is a tree of sections. The same keys are used in files, in flags and as `KEY=VALUE` on the command line;
`ptb config init` prints a file to start from, `ptb config schema` the JSON Schema for editors.

## Layers

From weakest to strongest:

1. the defaults on this page and on [the page of the components](components.md);
2. files, `-c FILE`, in the order in which they are given;
3. flags, such as `--epochs 5`;
4. `KEY=VALUE`, such as `trainer.epochs=5`.

Layers are merged key by key. There are four rules beside that:

- Where a layer names another component for a section than a weaker layer named, the settings that weaker layers gave
  the former component are dropped, and a warning names them. The core's own keys of the section stay
  (`optimizer.groups`). So does a section that weaker layers filled without a `name`.
- `--metric` replaces the metrics that files choose; of a metric that stays, its settings stay. `--callback` adds one.
- A list is replaced whole.
- `KEY=` with nothing behind it removes the value or table of weaker layers, such as `callbacks.ema=`; an empty string
  is `KEY='""'`.

`ptb config show` prints the result, with the source of each value that is no default.

## Files

A file is TOML in UTF-8, of at most {MAX_FILE_BYTES:,} bytes; one whose name ends in `.json` holds the same tree as
JSON. It holds values and names of components, no import paths and no expressions. The `config.toml` of
[a run directory](run-directory.md) is such a file.

In `KEY=VALUE` the value is in TOML syntax, and a bare word is a string: `model.pool=avg`, `optimizer.lr=1e-3`,
`'model.hidden=[128, 64]'`. Flags that take a number read it in
the same way.

## Checks

Values are checked strictly: `"5"` and `true` are no integers, an integer is a number, a list may fill a tuple. Unknown
keys are errors. A setting without a value (`none` in the tables) is left out, because TOML has no null. All problems
are reported at once, each with its key and its source."""

CONFIG_COMPONENTS = """\
In each of these sections `name` chooses the component, as a short name (`lenet`), an alias or an id
(`pytorch-basics:lenet`); the other keys are its settings. A section without `name` sets the default component."""

CONFIG_SHARED = {"optimizer": "Beside the settings of its optimizer, this section has keys that belong to the core:"}

CONFIG_GROUPS = """\
Each table of `optimizer.groups` makes a group of parameters. A parameter belongs to the first group whose `match` its
name has, as in a shell (`*` stands for any text), and that has its number of dimensions `ndim`; one of the two is
enough. The other keys are settings of the optimizer that the group has for itself; what it does not set, and the
parameters of no group, have the values of the section. With `name` the group has another optimizer, whose settings
stand in the group. The scheduler works on all. A group without a parameter is an error, which lists the names; so is a
setting that the optimizer does not have, or does not read from groups.

A learning rate of 0 for a group is not a freeze: the statistics of its batch norm move, and its gradients count in the
norm that `trainer.clip_norm` limits. The callback [`freeze`](components.md#freeze) keeps both as they are."""

CONFIG_GROUPS_EXAMPLE = """\
```toml
[optimizer]
name = "adamw"
lr = 1e-3
no_decay_on_norms_and_biases = true

[[optimizer.groups]]
match = "fc3.*"
lr = 1e-4
betas = [0.9, 0.99]

[[optimizer.groups]]
ndim = 2
name = "sgd"
lr = 0.02
momentum = 0.95
```"""

CONFIG_METRICS = """\
`metrics` holds one table for each metric. The key of the table is the label under which the figure is reported;
`name` chooses the component, and where it is left out the label is the name. A metric cannot be labelled `loss`. An
empty `metrics` table turns metrics off.

```toml
[metrics.accuracy]

[metrics.top1]
name = "accuracy"
```"""

CONFIG_CALLBACKS = """\
`callbacks` holds one table for each callback, as `metrics` does for metrics; none are used unless they are named.
[Use callbacks](../how-to/use-callbacks.md) shows each built-in one.

```toml
[callbacks.ema]
decay = 0.99

[callbacks.by-accuracy]
name = "best-checkpoint"
monitor = "val/accuracy"
mode = "max"
```"""

CONFIG_NOTES = {
    "loader": (
        """\
- The keys mean what they mean in `torch.utils.data.DataLoader`, with two defaults of ptb's own: `timeout` is 120 s, and
  without `num_workers` their number follows from how long the samples take to read.
- `num_workers`, `prefetch_factor`, `persistent_workers`, `multiprocessing_context` and `timeout` are for placement
  `workers`.""",
    ),
    "trainer": (
        """\
- `accumulate`: the last group of an epoch may have fewer batches. The gradients are those of one large batch, also
  with class weights or an ignored class. Batch norm still sees one batch at a time. `lbfgs` needs 1.
- `clip_norm`: a setting without a default value; where it is left out, gradients are not cut.
- `precision`: `bf16` needs a GPU that has it, or the CPU. With `fp16` the loss is scaled, so that small gradients do
  not become 0, and steps whose gradients overflow are skipped, counted and reported; `lbfgs` cannot take it.
  Weights and checkpoints stay in fp32.
- `monitor`: every evaluation counts, the first of equals wins, NaN never does. Without a validation split there is no
  best checkpoint. The test split is measured with the best weights, or the last ones where there is no best.
- `patience` counts evaluations, not epochs, needs a data set with a validation split, and ends training at the end of
  an epoch.
- `max_steps`, `max_time`: training ends there as it does after its last epoch. The learning rate schedule is made for
  all epochs, or for `max_steps` where that is less.""",
    ),
    "plugins": (
        """\
Which of the installed plugins take part; decided before any of them is imported. The flags `-p no:NAME`, `--no-plugins`
and `--strict-plugins` do the same for one command, the variables `PTB_PLUGINS=a,b` (only these; empty: none) and
`PTB_STRICT_PLUGINS=1` for a shell. The built-in plugin always takes part.""",
    ),
}

CONFIG_RESOLVE = """\
Whose component a short name is, where several plugins give the same name:

```toml
[resolve]
model.lenet = "ptb-acme:lenet"
```

Without it a built-in component keeps its name, with a warning, and a name that two other plugins give must be written
as a full id."""

PYTHON_INTRO = """\
`import ptb` gives the names below and imports no torch; each name is loaded when it is first used. `train`, `resume`,
`evaluate`, `load`, `TrainedModel`, `checkpoint_path`, `RunResult`, `SampleGenerator`, `StepOutput` and `NonFiniteError`
need torch; `run_options`, `json_option` and `verbose_option` need click. What is not on this page may change with any
version."""

PYTHON_DATA = {
    "hookimpl": "Marks a function of a plugin as a hook: write `@hookimpl` above it. It is a `pluggy.HookimplMarker`.",
    "__version__": "The version of the installed distribution `pytorch-basics`, a string.",
}


def pages() -> dict[str, str]:
    """The text of each generated page by its file name."""
    registry = Registry([load_plugin(found) for found in find_plugins() if found.built_in])
    bodies = {
        "hooks.md": hooks_page(),
        "components.md": components_page(registry),
        "config.md": config_page(registry),
        "commands.md": commands_page(registry),
        "python.md": python_page(),
    }
    return {name: "\n\n".join(parts) + "\n" for name, parts in bodies.items()}


def hooks_page() -> Iterator[str]:
    """The hook specifications."""
    yield from ("# Hooks", MARK, HOOKS_INTRO)
    for hook in HOOKS:
        function = getattr(hookspecs, hook)
        yield f"## {hook}"
        yield code(signature(function), "python")
        yield markdown(inspect.getdoc(function))
    yield HOOKS_EVENTS
    rows = [
        (quoted(signature(getattr(Callback, event), 10_000)), first_paragraph(getattr(Callback, event)))
        for event in EVENTS
    ]
    yield table(("member", "when"), rows)
    yield HOOKS_ACTORS


def components_page(registry: Registry) -> Iterator[str]:
    """The built-in components."""
    yield from ("# Built-in components", MARK, COMPONENTS_INTRO)
    for kind in KINDS:
        yield f"## {TITLES[kind]}"
        if kind == "plot":
            yield PLOTS_INTRO
        for entry in registry.components(kind):
            yield from component_section(entry)


def component_section(entry: RegisteredComponent) -> Iterator[str]:
    """One component."""
    record = entry.component
    yield f"### {entry.name}"
    yield f"{entry.summary}."
    facts = {"id": [entry.id], "target": [entry.target], "also called": record.aliases}
    facts |= {"takes targets": record.accepts, "needs": record.needs, "requires": record.requires}
    facts |= {"role": [record.role] if record.role else [], "before": record.before, "after": record.after}
    facts |= {"default for": record.default_for, "better": better(record.better)}
    yield "\n".join(f"- {label}: {', '.join(map(quoted, values))}" for label, values in facts.items() if values)
    package = entry.target.partition(".")[0]
    yield first_paragraph(entry.load()) if package.startswith("ptb_") else f"A class of the library `{package}`."
    yield settings_table(entry.settings_model()) or "It has no settings."


def config_page(registry: Registry) -> Iterator[str]:
    """The sections and keys of a configuration."""
    flags = {".".join(path): f"`--{flag}`" for flag, path in FLAGS.items()}
    yield from ("# Configuration", MARK, CONFIG_INTRO)
    yield "## Keys outside of sections"
    yield settings_table(RunSettings, "", flags)
    yield "## Sections of components"
    yield CONFIG_COMPONENTS
    rows = [
        (
            f"`{name}`",
            flags[f"{name}.name"],
            default_name(registry, name),
            f"[{TITLES[name]}](components.md#{anchor(name)})",
        )
        for name, kind in RUN_KINDS.items()
        if not kind.labelled
    ]
    yield table(("section", "flag", "default name", "built-in components"), rows)
    yield "The flag `--lr` sets `optimizer.lr`."
    for kind, model in SHARED_SECTIONS.items():
        yield f"## {kind}"
        yield CONFIG_SHARED[kind]
        yield settings_table(model, f"{kind}.")
    yield CONFIG_GROUPS
    yield settings_table(ParameterGroup)
    yield CONFIG_GROUPS_EXAMPLE
    yield "## metrics"
    yield CONFIG_METRICS
    defaults = [
        (quoted(target), *(words(names(registry, kind, target)) for kind in ("loss", "metric")))
        for target in TARGET_KINDS
    ]
    yield "Where nothing is chosen, the loss and the metrics follow from the target kind of the data set:"
    yield table(("target kind", "loss", "metrics"), defaults)
    yield "For another target kind the loss must be named, and there are no metrics unless they are named."
    yield "## callbacks"
    yield CONFIG_CALLBACKS
    for section, model in CORE_SECTIONS.items():
        yield f"## {section}"
        yield settings_table(model, f"{section}.", flags)
        yield from CONFIG_NOTES.get(section, ())
    yield "## resolve"
    yield CONFIG_RESOLVE


def commands_page(registry: Registry) -> Iterator[str]:
    """The help of every command, those that the built-in plugin provides too."""
    yield from ("# Commands", MARK)
    yield "What each command prints with `--help`. How they end: [exit codes](exit-codes.md)."
    for context in commands(registry):
        yield f"## {context.command_path}"
        yield code(context.get_help(), "text")


def python_page() -> Iterator[str]:
    """The public names of the facade."""
    yield from ("# Python", MARK, PYTHON_INTRO)
    errors = [getattr(ptb, name) for name in ptb.__all__ if is_error(getattr(ptb, name))]
    for name in ptb.__all__:
        value = getattr(ptb, name)
        if name in PYTHON_DATA:
            yield from (f"## {name}", PYTHON_DATA[name])
        elif value not in errors:
            yield from public_section(value)
    yield from ("## Errors", "Each is an exception, and a child of `PtbError` in the end.")
    rows = [(quoted(e.__name__), quoted(e.__base__.__name__), exit_text(e), first_paragraph(e)) for e in errors]
    yield table(("error", "is a", "exit code", "meaning"), rows)
    yield "## What a registry hands out"
    for value in (RegisteredComponent, PluginInfo):
        yield from public_section(value, "###")


def public_section(value: Any, level: str = "##") -> Iterator[str]:
    """A class or function, with the public methods and properties of a class."""
    yield f"{level} {value.__name__}"
    yield code(signature(value), "python")
    yield from docstring(value)
    if not inspect.isclass(value):
        return
    rows = []
    for name, member in vars(value).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            shown = name if isinstance(member, property) else signature(function, width=10_000)
            rows.append((quoted(shown), first_paragraph(function)))
    if rows:
        yield table(("member", "what it is"), rows)


def signature(value: Any, width: int = HELP_WIDTH) -> str:
    """The signature as the source writes it: that of ``__init__`` for a class, or its fields for a dataclass."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    if isinstance(node, ast.FunctionDef):
        return definition(node.name, arguments(node.args), node.returns, width)
    assert isinstance(node, ast.ClassDef)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return definition(node.name, arguments(item.args), None, width)
    fields = [ast.unparse(item) for item in node.body if isinstance(item, ast.AnnAssign)]
    return definition(node.name, fields, None, width)


def arguments(node: ast.arguments) -> list[str]:
    """The arguments one by one, without ``self`` and ``cls``."""
    defaults: list[ast.expr | None] = [None] * (len(node.args) - len(node.defaults)) + list(node.defaults)
    texts = [argument(arg, default) for arg, default in zip(node.args, defaults, strict=True)]
    texts = [text for text in texts if text not in ("self", "cls")]
    if node.vararg:
        texts.append(f"*{argument(node.vararg, None)}")
    elif node.kwonlyargs:
        texts.append("*")
    texts += [argument(arg, default) for arg, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
    return texts + ([f"**{argument(node.kwarg, None)}"] if node.kwarg else [])


def argument(node: ast.arg, default: ast.expr | None) -> str:
    """One argument with its annotation and default."""
    text = node.arg + (f": {ast.unparse(node.annotation)}" if node.annotation else "")
    return text + (f" = {ast.unparse(default)}" if default else "")


def definition(name: str, parts: Sequence[str], returns: ast.expr | None, width: int) -> str:
    """``name(parts) -> returns``, one argument a line where one line is too long."""
    tail = f" -> {ast.unparse(returns)}".replace("'", "") if returns else ""
    line = f"{name}({', '.join(parts)}){tail}"
    return line if len(line) <= width else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){tail}"


def commands(registry: Registry) -> Iterator[click.Context]:
    """A context for each command of ptb and of the plugins of a registry, whose help has a fixed width."""
    root = click.Context(ptb_command, info_name="ptb", terminal_width=HELP_WIDTH, **ptb_command.context_settings)
    root.meta[REGISTRY] = registry
    waiting = [root]
    while waiting:
        context = waiting.pop(0)
        yield context
        group, below = context.command, []
        if not isinstance(group, click.Group):
            continue
        for name in group.list_commands(context):
            child = group.get_command(context, name)
            assert child is not None
            child = child.load() if isinstance(child, PluginCommand) else child
            child = copy.copy(child)
            child._help_option = None  # click keeps that of whoever asked first, which may know no -h
            below.append(click.Context(child, info_name=name, parent=context))
        waiting = below + waiting


def settings_table(model: type[BaseModel], prefix: str = "", flags: dict[str, str] | None = None) -> str:
    """The settings of a model, one a row; nothing where it has none."""
    header = ("key", "type", "bounds", "default", "description") + (("flag",) if flags else ())
    rows = []
    for row in describe(model):
        default = row.default if row.default in ("none", "required") else quoted(row.default)
        cells = (quoted(prefix + row.name), quoted(row.type), row.bounds, default, row.description)
        rows.append((*cells, flags.get(prefix + row.name, "")) if flags else cells)
    return table(header, rows) if rows else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns that are empty throughout are left out."""
    lines = [header, *rows]
    kept = [index for index in range(len(header)) if any(line[index] for line in lines[1:])]
    texts = ["| " + " | ".join(line[index].replace("|", r"\|") for index in kept) + " |" for line in lines]
    return "\n".join([texts[0], "|" + " --- |" * len(kept), *texts[1:]])


def docstring(value: Any) -> Iterator[str]:
    """A docstring: paragraphs as text, and from its first indented block on as it stands."""
    paragraphs = (inspect.getdoc(value) or "").split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if "\n " in paragraph or paragraph == "::":
            yield code(markdown("\n\n".join(paragraphs[number:]).removeprefix("::\n\n")), "text")
            return
        yield markdown(paragraph)


def first_paragraph(value: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return markdown(" ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split()))


def markdown(text: str | None) -> str:
    """Docstring markup as Markdown."""
    return (text or "").replace("``", "`")


def better(said: str | Mapping[str, str] | None) -> list[str]:
    """Which way a metric is better, for each figure where it has several."""
    return [f"{figure}: {way}" for figure, way in said.items()] if isinstance(said, Mapping) else [said] if said else []


def quoted(text: str) -> str:
    """The text as code."""
    return f"`{text}`"


def words(names: Sequence[str]) -> str:
    """Names as code, or a word for none."""
    return ", ".join(map(quoted, names)) or "none"


def code(text: str, language: str) -> str:
    """A fenced block."""
    return f"```{language}\n{text}\n```"


def anchor(kind: str) -> str:
    """Where the components of a kind begin on their page."""
    return TITLES[kind].lower().replace(" ", "-")


def default_name(registry: Registry, kind: str) -> str:
    """The component that a run takes where none is named."""
    fallback = "follows from the data set" if kind == "loss" else "must be chosen"
    return words(names(registry, kind)) if registry.defaults(kind) else fallback


def names(registry: Registry, kind: str, target: str | None = None) -> list[str]:
    """The components of a kind that are the default for targets of this kind."""
    return [entry.name for entry in registry.defaults(kind, target)]


def is_error(value: Any) -> bool:
    """Whether it is one of ptb's exceptions."""
    return inspect.isclass(value) and issubclass(value, PtbError)


def exit_text(error: type[PtbError]) -> str:
    """The exit code of an error; that of ``InterruptedRunError`` is known when a signal has come."""
    return "129, 130, 143" if error is ptb.InterruptedRunError else str(error.exit_code)


def main(arguments: Sequence[str], folder: Path = FOLDER, echo: Callable[[str], None] = print) -> int:
    """Writes or checks the pages in ``folder``; returns the exit code."""
    if set(arguments) - {"--check"}:
        echo("usage: python docs/reference/generate.py [--check]")
        return 2
    texts = pages()
    stale = [
        name
        for name, text in texts.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    for name in stale:
        if arguments:
            echo(f"stale: {folder / name}")
        else:
            (folder / name).write_text(texts[name], encoding="utf-8", newline="\n")
            echo(f"wrote {folder / name}")
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
