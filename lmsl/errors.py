"""The one exception a user is meant to see: a single line saying what was expected and got."""


class InputError(ValueError):
    """Bad input from the user: an argument, a file or a folder.

    The message is one line: the argument or ``file:line``, what was expected, what was found and
    what to do. The command line prints it and exits with status 2.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM: to be ended like Ctrl-C."""


class TrainingError(RuntimeError):
    """Training cannot go on though the input was in order; one line says where and why."""
