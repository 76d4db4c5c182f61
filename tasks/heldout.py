"""Which groups are kept out of training: one rule, shared by the labelled examples and by the corpus split."""

import hashlib

HELDOUT_SHARE = 0.12
HELDOUT_SEED = (
    575  # with it every area of tasks/stdlib_examples.py has two held-out modules or more, from Python 3.11 to 3.13
)


def unit_hash(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def is_heldout(group: str, share: float, seed: int) -> bool:
    """True for about `share` of all groups, the same ones in every run and on every machine."""
    return unit_hash(group, seed) < share
