"""Errors that a command reports in one line."""


class FailedError(Exception):
    """A run failed for a reason other than a user mistake; the message states it in one line. Exit status 1."""
