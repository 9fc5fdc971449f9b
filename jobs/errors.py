"""What a person can mend: errors whose message says what is wrong and what to do."""

from pipeline.config import ConfigError
from pipeline.pairs import DatasetError
from storage import RunError
from storage.files import PlaceError
from workers.images import ImageError
from workers.networks import NetworkError
from workers.split import LayerError

INPUT_ERRORS = (ConfigError, DatasetError, NetworkError, LayerError, RunError, ImageError, PlaceError)
