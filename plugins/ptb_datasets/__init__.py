"""The built-in data sets."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> Iterable[Component]:
    """Real data that needs no account, your own pictures and tables, and random samples of any form."""
    return [
        Component(
            "digits",
            "ptb_datasets.digits:digits",
            summary="1,797 real handwritten digits, shipped with scikit-learn; no download",
            settings="ptb_datasets.settings:Digits",
            default_for=("*",),
        ),
        _component("digit-pairs", "digit_pairs:digit_pairs", "Pairs of these digits, same or different (similarity)"),
        _component("mnist", "mnist:mnist", "70,000 handwritten digits, 28x28, 10 classes, from IDX files"),
        _component(
            "fashion-mnist",
            "fashion_mnist:fashion_mnist",
            "70,000 pictures of clothes, 28x28, 10 classes, from IDX files",
        ),
        _component("iris", "shipped_tables:iris", "150 iris flowers, 4 lengths, 3 species; no download"),
        _component("wine", "shipped_tables:wine", "178 wines, 13 measurements, 3 growers; no download"),
        _component(
            "breast-cancer", "shipped_tables:breast_cancer", "569 tumours, 30 measurements, binary target; no download"
        ),
        _component("diabetes", "shipped_tables:diabetes", "442 patients, 10 measurements, real target; no download"),
        Component(
            "image-folder",
            "ptb_datasets.image_folder:image_folder",
            summary="Your own pictures, one folder for each class, or a table of files and labels",
            settings="ptb_datasets.picture_settings:ImageFolder",
        ),
        Component(
            "image-masks",
            "ptb_datasets.image_masks:image_masks",
            summary="Your own pictures, with a mask of classes for each",
            settings="ptb_datasets.picture_settings:ImageMasks",
        ),
        _component("arrays", "arrays:arrays", "Your own arrays: two NumPy files, of any size"),
        Component(
            "idx",
            "ptb_datasets.idx_files:idx_files",
            summary="Your own IDX files: pictures and labels, as MNIST and EMNIST come",
            settings="ptb_datasets.settings:Idx",
        ),
        Component(
            "csv",
            "ptb_datasets.csv_table:csv_table",
            summary="Your own table: numbers, categories, dates or text, from CSV, Excel or Parquet files",
            settings="ptb_datasets.csv_settings:Csv",
            requires=("pandas>=2.2",),
            extra="csv",
        ),
        _component("random", "random_data:random_data", "Random samples of any form, to try things out"),
    ]


def _component(name: str, target: str, summary: str) -> Component:
    settings = "".join(part.capitalize() for part in name.split("-"))
    return Component(name, f"ptb_datasets.{target}", summary, f"ptb_datasets.settings:{settings}")
