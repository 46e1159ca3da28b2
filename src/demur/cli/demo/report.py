"""The demo for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .asking import Heard
from .scenes import Seen


def to_json(
    seen: Sequence[Seen], *, seconds: float, boot_seconds: float | None, left_out: str | None
) -> dict[str, Any]:
    """``left_out`` says why there was no proxy, where there was none."""
    return {
        "ok": all(scene.holds for scene in seen),
        "seconds": round(seconds, 3),
        "proxy": {
            "ran": left_out is None,
            "left_out": left_out,
            "boot_seconds": None if boot_seconds is None else round(boot_seconds, 3),
        },
        "scenes": [_scene(scene) for scene in seen],
    }


def _scene(seen: Seen) -> dict[str, Any]:
    scene = seen.scene
    return {
        "name": scene.name,
        "via": scene.via,
        "model": scene.model,
        "stream": scene.stream,
        "ok": seen.holds,
        "without": _heard(seen.without),
        "demur": _heard(seen.demur),
        "outcome": dict(seen.record),
        "headers": seen.headers,
        "cut": None if seen.cut is None else asdict(seen.cut),
        "checks": [asdict(check) for check in seen.checks],
    }


def _heard(heard: Heard) -> dict[str, Any]:
    return {
        "model": heard.model,
        "text": heard.text,
        "pieces": list(heard.pieces),
        "tools": list(heard.tools),
        "first_seconds": round(heard.first_seconds, 6),
        "seconds": round(heard.seconds, 6),
    }
