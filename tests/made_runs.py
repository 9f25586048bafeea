"""Rows and figures of runs that are made up, for tests of what draws them."""

import json


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def history(*columns, split="val", name="loss"):
    """Rows of one figure, a row an epoch."""
    return [
        {"step": 10 * epoch, "epoch": epoch, "split": split, "values": {name: value}, "lr": 0.1 / epoch}
        for epoch, value in enumerate(columns, 1)
    ]


def texts(figure):
    """All that a figure says."""
    from matplotlib.text import Text

    return [each.get_text() for each in figure.findobj(Text) if each.get_text()]
