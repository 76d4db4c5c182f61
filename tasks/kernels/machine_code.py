"""Compilation by numba, told to keep machine code by the content of all kernels.

By itself numba looks only at the file of the function it compiled: a change in a file whose functions that one calls would
go unnoticed, and the old code would run. So the cache folder is named by a digest of every module here.
"""

import hashlib
from pathlib import Path

import numba as numba
from numba.core import config

_HERE = Path(__file__).parent
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.py")))).hexdigest()[:16]
if not config.CACHE_DIR:  # pyright: ignore # the user's own choice stands; a folder that cannot be written is passed over
    config.CACHE_DIR = str(_HERE / "__pycache__" / f"kernels-{_DIGEST}")  # pyright: ignore
