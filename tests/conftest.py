"""For all tests: how long an example may take is no figure of a busy machine's."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
