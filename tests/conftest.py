"""Options common to all tests."""

from hypothesis import settings

# A slow machine is no failure; every simulation has a timeout in cycles instead.
settings.register_profile("gategrad", deadline=None, derandomize=True)
settings.load_profile("gategrad")
