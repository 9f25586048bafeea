"""Plain state to a disk that survives a power cut, and back."""
