"""The one error that a user is meant to read."""


class UserError(ValueError):
    """Bad input: the message is one line that says what is wrong and names the mend.

    Command lines print it as ``error: MESSAGE`` on standard error and exit with status 2.
    """
