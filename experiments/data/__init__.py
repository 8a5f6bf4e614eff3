"""Real data for the experiments, read from a data directory in its published layouts.

No file is unpickled: arrays come from plain bytes, and images from an image decoder. `load` has the
names of the data sets.
"""

from ._arrays import Dataset as Dataset
from ._files import DataError as DataError
from ._folders import ImageFolder as ImageFolder
from ._folders import decode as decode
from ._folders import image_folder as image_folder
from ._folders import imagenet as imagenet
from ._folders import part_of as part_of
from ._folders import tiny_imagenet as tiny_imagenet
from ._folders import write_images as write_images
from ._load import DATASETS as DATASETS
from ._load import FOLDERS as FOLDERS
from ._load import load as load
from ._load import load_folders as load_folders
from ._pipeline import Batch as Batch
from ._pipeline import Crop as Crop
from ._pipeline import stream as stream
from ._pipeline import training_batches as training_batches
from ._pipeline import validation_batches as validation_batches
