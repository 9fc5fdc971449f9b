"""What a person can mend: errors whose message says what is wrong and what to do."""

from extremal.pipeline.errors import ConfigError, DatasetError
from extremal.storage import RunError
from extremal.storage.errors import PlaceError
from extremal.workers.errors import ImageError, LayerError, NetworkError

INPUT_ERRORS = (ConfigError, DatasetError, NetworkError, LayerError, RunError, ImageError, PlaceError)
