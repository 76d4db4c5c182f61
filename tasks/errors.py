"""User error: the input is at fault, and here is how to put it right."""


class UserError(Exception):
    """A fault in a recipe, a file or an argument: the command line prints it without a traceback and exits with 2.

    The message names the place (file, row or key), what was found, what was expected and the fix.
    """
