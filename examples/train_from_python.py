"""Trains a network on handwritten digits from plain Python, then uses it: ``python train_from_python.py [DIR]``."""

import sys

import torch

import ptb


def main(output: str | None = None) -> None:
    """Trains, prints the test accuracy, and reads five digits with the trained model.

    Args:
        output: the run directory, new or empty; one under ``runs/`` when left out.
    """
    config = ptb.RunConfig(model={"name": "mlp", "hidden": [128]}, optimizer={"lr": 3e-3}, trainer={"epochs": 5})
    result = ptb.train(config, output=output)
    print(f"test accuracy {result.metrics['test/accuracy']:.3f}, recorded in {result.output}")

    data = ptb.load_registry().build("dataset", "digits")  # the DataBundle that the run used
    pictures, labels = data.test[:5]  # uint8 (5, 1, 32, 32), int64 (5,)
    model = result.model.cpu().eval()
    with torch.inference_mode():
        scores = model(data.transform(pictures))  # (5, 10)
    print(f"written {labels.tolist()}, read {scores.argmax(dim=1).tolist()}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
