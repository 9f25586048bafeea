"""The settings of the built-in data sets."""

from pydantic import BaseModel, Field


class Digits(BaseModel):
    """Settings of ``digits``."""

    size: int = Field(32, ge=8, le=256, description="Height and width to which the 8x8 pictures are resized")
    val_fraction: float = Field(0.15, gt=0, lt=0.5, description="Part of each class that is kept for validation")
    test_fraction: float = Field(0.15, gt=0, lt=0.5, description="Part of each class that is kept for the last test")
    split_seed: int = Field(
        0, ge=0, lt=2**32, description="Chooses which samples go where; independent of the run's seed"
    )


class FashionMnist(BaseModel):
    """Settings of ``fashion-mnist``."""

    root: str | None = Field(
        None, description="Folder with the four IDX files, plain or .gz; without it the usual folders are searched"
    )
    val_size: int = Field(5000, ge=0, lt=60000, description="Training pictures that are kept for validation; 0: none")
    split_seed: int = Field(0, ge=0, lt=2**32, description="Chooses which these are; independent of the run's seed")
