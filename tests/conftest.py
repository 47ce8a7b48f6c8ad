"""Options common to all tests."""

from hypothesis import HealthCheck, settings

# A slow machine is no failure; every simulation has a timeout in cycles instead.
settings.register_profile(
    "gategrad", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gategrad")
