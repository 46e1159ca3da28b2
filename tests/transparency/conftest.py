"""Makes the stage of the LiteLLM tests, which starts proxies, importable from here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
sys.path.append(str(Path(__file__).parents[1] / "adapters" / "litellm"))
