"""What ``ptb plugins doctor`` and ``ptb plugins bisect`` find out. Plugins and torch run in other processes only."""
