"""Composes a run, carries it out and records it."""
