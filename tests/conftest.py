"""What holds for every test."""

import hypothesis

# A machine that is busy with something else is no reason to fail: time limits are pytest-timeout's.
hypothesis.settings.register_profile(
    "aldis", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("aldis")
