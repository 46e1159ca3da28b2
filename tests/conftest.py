"""Settings that hold for every test."""

from __future__ import annotations

from hypothesis import settings

# Examples are timed by the wall clock, which a busy machine can stretch at will.
settings.register_profile("demur", deadline=None)
settings.load_profile("demur")
