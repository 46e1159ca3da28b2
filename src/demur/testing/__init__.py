"""What tests, the demo and users need to try demur without a provider."""

from __future__ import annotations

from .reply import Reply, ToolCall
from .upstream import Recorded, Script, Upstream

__all__ = ["Recorded", "Reply", "Script", "ToolCall", "Upstream"]
