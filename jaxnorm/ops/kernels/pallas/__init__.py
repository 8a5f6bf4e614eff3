"""Kernels written in Pallas, for NVIDIA GPUs and for TPUs."""
