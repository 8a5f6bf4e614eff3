"""Each implementation has to keep the laws: plain JAX, and where they are built the kernels."""

from tests.laws.implementations import implementation as implementation
