import threading
import time

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure


def drawn(title="", size=4):
    figure = Figure(figsize=(size, 3))
    figure.add_subplot().set_title(title)
    return figure


def gives_a_figure_or_a_chart(records):
    return {"series": []}


def gives_a_figure_or_a_chart_2(records):
    raise KeyError("accuracy/of the class 'x'")


def draws_the_same_twice(records):
    return drawn(str(time.perf_counter_ns()))


def leaves_runs_alone(records):
    (records[0].path / "plot.png").write_bytes(b"")
    return drawn()


def leaves_runs_alone_2(records):
    return drawn(str(records[0].history.pop()["step"]))


def leaves_pyplot_alone(records):
    figure = plt.figure(figsize=(4, 3))
    figure.add_subplot()
    return figure


def leaves_pyplot_alone_2(records):
    mpl.rcParams["axes.grid"] = True
    return drawn()


def draws_in_a_thread(records):
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("no display here")
    return drawn()


def draws_unusual_values(records):
    return drawn(" ".join(records[0].manifest["data"].get("class_names", [])))


def takes_several_runs_or_says_so(records):
    (record,) = records
    return drawn(record.path.name)


def needs_suffice(records):
    return drawn(str(records[0].predictions("test")[0]["truth"]))


def needs_suffice_2(records):
    return drawn("figures" if records[0].history else "none")
