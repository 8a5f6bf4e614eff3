"""Implementations of `standardize` beside the formulas; `ops/_implementations.py` orders them."""
