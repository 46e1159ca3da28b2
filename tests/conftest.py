"""Settings that hold for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# Importing LiteLLM asks the network for prices otherwise, and there is none.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# Examples are timed by the wall clock, which a busy machine can stretch at will.
settings.register_profile("demur", deadline=None)
settings.load_profile("demur")
