"""Norms by windows around each entry, and by the responses of other channels."""

from ._divisive import divisive_norm as divisive_norm
from ._global_response import global_response_norm as global_response_norm
from ._local_contrast import local_contrast_norm as local_contrast_norm
from ._local_response import local_response_norm as local_response_norm
