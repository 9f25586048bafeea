"""Makes a folder of plugins, each broken in a way of its own, to see what ptb says of them.

::

    python examples/bad_day.py bad-day
    PYTHONPATH=bad-day ptb plugins list

Nothing is installed: the folder plays site-packages while it is on PYTHONPATH.
"""

import sys
from pathlib import Path

MODEL = """\
from ptb import Component, hookimpl


@hookimpl
def ptb_provide_models():
    return [Component("{name}", "torch.nn:Identity"{more})]
"""

# distribution: its module, and what it asks of ptb
PLUGINS = {
    "ptb-raises": ("raise RuntimeError('the licence server is down')\n", ">=0.1"),
    "ptb-exits": ("import sys\n\nsys.exit('wrong platform')\n", ">=0.1"),
    "ptb-one": (MODEL.format(name="tiny", more=""), ">=0.1"),
    "ptb-two": (MODEL.format(name="tiny", more=""), ">=0.1"),
    "ptb-lenet": (MODEL.format(name="lenet", more=""), ">=0.1"),
    "ptb-future": (MODEL.format(name="future", more=""), ">=9"),
    "ptb-needy": (MODEL.format(name="needy", more=', requires=("package-from-tomorrow>=2",)'), ">=0.1"),
    "ptb-misspelt": (MODEL.format(name="lost", more="").replace("provide_models", "provide_modles"), ">=0.1"),
}


def install(folder: Path, name: str, source: str, bound: str) -> None:
    """Writes a plugin as an installer would leave it: a module, and a folder of metadata."""
    module = name.replace("-", "_")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: pytorch-basics{bound}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[ptb]\n{module} = {module}\n", encoding="utf-8")


def main() -> None:
    """Writes all of them into the folder that is named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python bad_day.py FOLDER")
    folder = Path(sys.argv[1])
    for name, (source, bound) in PLUGINS.items():
        install(folder, name, source, bound)
    print(f"wrote {len(PLUGINS)} plugins into {folder}; see them with: PYTHONPATH={folder} ptb plugins list")


if __name__ == "__main__":
    main()
