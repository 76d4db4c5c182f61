"""User error: the input is at fault, and here is how to put it right; and faults of the machine, told in words."""

import errno

NO_SPACE = ("no space left on device", "database or disk is full", "disk quota exceeded")
NO_MEMORY = ("out of memory", "not enough memory", "cannot allocate memory", "can't allocate memory", "failed to allocate", "bad_alloc")


class UserError(Exception):
    """A fault in a recipe, a file or an argument: the command line prints it without a traceback and exits with 2.

    The message names the place (file, row or key), what was found, what was expected and the fix.
    """


def machine_fault(error: BaseException) -> str | None:
    """What the machine lacks, with the fix, where that is behind an error; None for any other."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        text = (str(found).splitlines() or [type(found).__name__])[0]  # a log may follow
        number, said = found.errno if isinstance(found, OSError) else None, text.lower()
        where = f" ({found.filename})" if isinstance(found, OSError) and found.filename else ""
        if number in (errno.ENOSPC, errno.EDQUOT) or any(words in said for words in NO_SPACE):
            return (
                f"no space left on the disk{where}. Fix: free some, or choose another disk with --workspace DIR; finished stages are kept."
            )
        if number == errno.EROFS:
            return f"the disk is read-only{where}. Fix: choose another place with --workspace DIR."
        if isinstance(found, MemoryError) or number == errno.ENOMEM or any(words in said for words in NO_MEMORY):
            return (
                f"out of memory ({text[:200]}). Fix: lower micro_rows of the training, "
                "files.workers of the corpus or concurrency, or take a machine with more; finished stages are kept."
            )
        found = found.__cause__ or found.__context__
    return None
