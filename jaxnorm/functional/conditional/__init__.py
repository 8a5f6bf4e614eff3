"""Norms whose scale and bias follow from a condition: a class, a text, a style, a segmentation."""

from ._ada_layer import ada_layer_norm as ada_layer_norm
from ._ada_layer_zero import ada_layer_norm_zero as ada_layer_norm_zero
from ._adaptive_instance import adaptive_instance_norm as adaptive_instance_norm
from ._batch import conditional_batch_norm as conditional_batch_norm
from ._film import film as film
from ._modulated_rms import modulated_rms_norm as modulated_rms_norm
from ._resize import resize_segmentation as resize_segmentation
from ._spade import spade as spade
