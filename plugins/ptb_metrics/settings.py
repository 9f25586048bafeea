"""The settings of the built-in metrics."""

from pydantic import BaseModel


class Accuracy(BaseModel):
    """``accuracy`` has no settings."""
