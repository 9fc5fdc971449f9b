"""Errors that end a command, each saying what to do; apart, so that who catches them need not import Ray."""

from extremal.storage.errors import UserError


class ConfigError(UserError):
    """A configuration is not valid; the message names the key and the fix."""


class DatasetError(UserError):
    """A dataset cannot be used; the message names the file and the fix."""


class DriverError(Exception):
    """The run cannot go on; the message says why and what to do."""
