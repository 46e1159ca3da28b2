"""The only folder that imports openai: wrapped clients, their requests and responses."""

from __future__ import annotations

from .wrapping import wrap

__all__ = ["wrap"]
