"""Where a similarity run puts its samples: alike ones should lie beside each other."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ptb import ConfigError, RunRecord
from ptb_plots.data import bundle_of, model_of, spread
from ptb_plots.drawing import COLOURS, figure, legend, plain
from ptb_plots.runs import one

MOST_LINES = 80


def embedding(records: Sequence[RunRecord], *, split: str = "test", count: int = 300) -> Figure:
    """The embeddings of pairs of a split on their two principal components; a line joins the two of a pair.

    Embeddings are scaled to length 1 first, as the cosine compares them. Blue lines join pairs that are alike and
    should be short, orange ones pairs that are not.

    Raises:
        ConfigError: there are several runs.
        PtbError: the model or the data set cannot be loaded.
    """
    import torch

    record = one(records, "embedding")
    bundle = bundle_of(record)
    model = model_of(record, bundle)
    samples = getattr(bundle, split, None)
    if samples is None:
        raise ConfigError(f"the data of {record.path} has no {split} split")
    chosen = [sample for _, sample in spread(samples, count)]
    inputs = torch.stack([torch.as_tensor(sample[0]) for sample in chosen])
    alike = np.array([float(sample[1]) > 0 for sample in chosen])
    with torch.inference_mode():
        inputs = inputs if bundle.transform is None else bundle.transform(inputs)
        scores = model(inputs.flatten(0, 1))  # [2 B, E]
    points = torch.nn.functional.normalize(scores.double(), dim=1).numpy()
    centred = points - points.mean(0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions * np.where(directions.sum(1, keepdims=True) < 0, -1, 1)  # the sign is anybody's choice
    flat = (centred @ directions[:2].T).reshape(len(chosen), 2, -1)
    flat = flat if flat.shape[2] == 2 else np.concatenate([flat, np.zeros_like(flat)], 2)[..., :2]
    kept = float((sizes[:2] ** 2).sum() / max((sizes**2).sum(), 1e-12))
    drawn = figure(6.4, 5.4)
    axes = plain(drawn.add_subplot())
    for place, (pair, same) in enumerate(zip(flat, alike, strict=True)):
        if place < MOST_LINES:
            colour = COLOURS[0] if same else COLOURS[1]
            label = "pair that is alike" if same else "pair that is not"
            axes.plot(pair[:, 0], pair[:, 1], color=colour, linewidth=0.7, alpha=0.6, label=label)
    x, y = flat.reshape(-1, 2).T
    sns.scatterplot(x=x, y=y, s=14, color="#333333", linewidth=0, legend=False, ax=axes, zorder=3)
    axes.set(
        xlabel="first principal component",
        ylabel="second principal component",
        title=f"{split}: {len(chosen)} pairs, {kept:.0%} of the variance",
    )
    legend(drawn, [axes])
    return drawn
