"""The checks, one file for what all kinds share and one for each kind. Each is a function of a ``Case``."""
