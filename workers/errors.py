"""Errors of what a worker was given; apart, so that who only catches them need not import torch."""

from extremal.storage.errors import UserError


class ImageError(UserError):
    """An image that cannot be read or used; the message names the file and the cause."""


class NetworkError(UserError):
    """A network that cannot be built or filled; the message names it, the file and the way out."""


class LayerError(UserError):
    """A layer at which the network cannot be cut; the message names layers that exist or the reason."""


class TrainingError(UserError):
    """Training cannot go on; the message says why and the way out."""


class DeviceError(UserError):
    """A device that is none, or that this machine does not have."""
