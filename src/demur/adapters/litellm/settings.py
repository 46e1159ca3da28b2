"""What the guardrail is configured with: its policy, wherever the path was meant to start."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import PolicyError
from ...policy import Policy, load_policy

Source = str | os.PathLike[str] | Mapping[str, Any] | Policy

_KEYS = ("policy",)


def policy_of(policy: Source | None, settings: Mapping[str, Any] | None) -> Policy | Path:
    """The policy given in code, or under the ``demur:`` key of a proxy's config; else the default.

    A ``Path`` is that of a file, found but not read.

    Raises ``PolicyError``, which stops the proxy from starting: for a ``ValueError`` it would start
    without the guardrail.
    """
    if settings is not None:
        if not isinstance(settings, Mapping) or set(settings) - set(_KEYS):
            raise PolicyError(f"the key 'demur' takes {{policy: PATH}}, not {_told(settings)}")
        policy = settings.get("policy", policy)
        # A name after ``os.environ/`` that is not set comes from LiteLLM as ``None``.
        if "policy" in settings and policy in (None, ""):
            raise PolicyError(
                "the key 'demur' has an empty policy; set the variable it names, or leave the key "
                "out for the default policy"
            )
    if policy is None:
        return Policy()
    if isinstance(policy, str | os.PathLike):
        return _found(Path(policy))
    return load_policy(policy)


def _found(path: Path) -> Path:
    """A relative path is looked up in the working directory, then beside the proxy's config."""
    path = path.expanduser()
    beside = _config_folder()
    if path.is_absolute() or path.exists() or beside is None:
        return path
    if (beside / path).exists():
        return beside / path
    raise PolicyError(
        f"{path}: no such policy file in {Path.cwd()} or in {beside}; "
        "give an absolute path, or one relative to either"
    )


def _config_folder() -> Path | None:
    server = sys.modules.get("litellm.proxy.proxy_server")
    config = getattr(server, "user_config_file_path", None)
    return Path(config).resolve().parent if config else None


def _told(settings: object) -> str:
    if not isinstance(settings, Mapping):
        return type(settings).__name__
    return "the key(s) " + ", ".join(repr(str(key)) for key in sorted(set(settings) - set(_KEYS)))


def check_mode(mode: object, others: Mapping[str, Any]) -> None:
    """Raise ``PolicyError`` unless a proxy's ``mode`` lets demur see both ends of a request, and
    ``others`` of LiteLLM's settings let it change one.

    ``None`` is the SDK. Modes by tag need a licence; without it they fail every request.
    """
    if mode is None:
        return
    modes = mode if isinstance(mode, list | tuple) else [mode]
    if not {"pre_call", "post_call"} <= {str(getattr(m, "value", m)) for m in modes}:
        raise PolicyError("demur in a proxy needs mode: [pre_call, post_call]")
    if others.get("scan_raw_request"):
        raise PolicyError(
            "with scan_raw_request LiteLLM drops what demur notes on a request, and nothing is "
            "judged; leave it out"
        )
