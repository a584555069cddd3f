"""Causal inference on Spark: what really moved the number."""

__version__ = "0.1.0"
