"""Functions of each entry by itself that take the place of a norm, or of its scale."""

from ._dynamic_tanh import dynamic_tanh as dynamic_tanh
