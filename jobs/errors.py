"""What a person can mend: errors whose message says what is wrong and what to do."""

from pipeline.errors import ConfigError, DatasetError
from storage import RunError
from storage.files import PlaceError
from workers.errors import ImageError, LayerError, NetworkError

INPUT_ERRORS = (ConfigError, DatasetError, NetworkError, LayerError, RunError, ImageError, PlaceError)
