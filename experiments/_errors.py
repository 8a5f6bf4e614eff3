"""What ends a run with a sentence in place of a traceback."""


class RunError(Exception):
    """A run cannot start. The message says what to do."""
