"""Errors that end a command, each saying what to do; apart, so that who catches them need not import Ray."""


class ConfigError(Exception):
    """A configuration is not valid; the message names the key and the fix."""


class DatasetError(Exception):
    """A dataset cannot be used; the message names the file and the fix."""


class DriverError(Exception):
    """The run cannot go on; the message says why and what to do."""
