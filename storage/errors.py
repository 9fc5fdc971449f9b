"""Errors that a person can mend. They import nothing, so that who only catches them starts at once."""


class UserError(Exception):
    """What is wrong and what to do about it, in one message: a command ends with it and exit code 2."""


class PlaceError(UserError, ValueError):
    """A URI that names no place; the message holds no secrets."""


class RunError(UserError):
    """A run directory cannot be used; the message names it and the fix."""


class ConfigMismatch(RunError):
    """The directory holds a run with another identity; the message is a readable diff."""
