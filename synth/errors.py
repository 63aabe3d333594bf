"""The exception for bad input."""


class UserError(ValueError):
    """Bad input; the message is one line that says what is wrong and how to correct it.

    Command lines print it as ``error: MESSAGE`` on standard error and exit with status 2.
    """
