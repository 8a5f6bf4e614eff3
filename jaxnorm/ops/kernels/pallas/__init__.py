"""Kernels for GPU and TPU, written in Pallas; `ops/_implementations.py` orders them."""
