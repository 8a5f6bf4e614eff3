"""Named normalizers as pure functions, each with its paper."""

from ._batch import SingleValue as SingleValue
from ._batch import batch_norm as batch_norm
from ._catalogue import CATALOGUE as CATALOGUE
from ._catalogue import Member as Member
from ._dtypes import result_dtype as result_dtype
from ._filter_response import filter_response_norm as filter_response_norm
from ._ghost import ghost_batch_norm as ghost_batch_norm
from ._group import group_norm as group_norm
from ._group import group_stats_shape as group_stats_shape
from ._instance import instance_norm as instance_norm
from ._layer import layer_norm as layer_norm
from ._learning import Target as Target
from ._learning import Update as Update
from ._learning import constant as constant
from ._learning import starts as starts
from ._module import errors_naming as errors_naming
from ._module import run as run
from ._rms import rms_norm as rms_norm
from ._specs import SPECS as SPECS
from ._specs import Spec as Spec
from ._spectral import SpectralState as SpectralState
from ._spectral import spectral_norm as spectral_norm
from ._spectral import spectral_norm_init as spectral_norm_init
from ._weight_norm import weight_norm as weight_norm
from ._weight_norm import weight_norm_scale as weight_norm_scale
from ._weight_standardization import weight_standardization as weight_standardization
