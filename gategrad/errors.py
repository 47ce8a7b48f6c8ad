"""The one exception that users see."""


class GategradError(ValueError):
    """Bad input, said in one sentence that names the file, key, layer or board and what would help.

    The command line prints it without a traceback and exits with status 2.
    """
