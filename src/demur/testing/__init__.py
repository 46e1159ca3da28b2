"""What tests, the demo and users need to try demur without a provider."""

from __future__ import annotations

from .detectors import HangingDetector, LyingDetector, PhraseDetector, RaisingDetector
from .reply import Reply, ToolCall
from .scripted import Call, CapturedRecords, ScriptedError, ScriptedModel, ScriptedStream
from .upstream import Recorded, Script, Upstream

__all__ = [
    "Call",
    "CapturedRecords",
    "HangingDetector",
    "LyingDetector",
    "PhraseDetector",
    "RaisingDetector",
    "Recorded",
    "Reply",
    "Script",
    "ScriptedError",
    "ScriptedModel",
    "ScriptedStream",
    "ToolCall",
    "Upstream",
]
