"""Errors of what a worker was given; apart, so that who only catches them need not import torch."""


class ImageError(Exception):
    """An image that cannot be read or used; the message names the file and the cause."""


class NetworkError(Exception):
    """A network that cannot be built or filled; the message names it, the file and the way out."""


class LayerError(Exception):
    """A layer at which the network cannot be cut; the message names layers that exist or the reason."""
