"""Measures ptb beside loops written by hand, so that its claims can be checked on any machine."""
