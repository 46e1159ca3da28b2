"""A real LiteLLM proxy process with demur's guardrail in it, gone when the demo is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.request import ProxyHandler, build_opener

from typing_extensions import Self

from ...errors import DemurError

KEY: Final = "sk-demur-demo"
BOOT_SECONDS: Final = 90.0
STOP_SECONDS: Final = 5.0

_PROXY_PACKAGES = ("litellm", "fastapi", "uvicorn", "apscheduler", "backoff", "orjson")
"""What only ``litellm[proxy]`` brings all of."""

_PASSED_ON = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH"),
        *("TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA"),
    }
)
"""Of the caller's environment the process gets no more: no key, no database, no settings."""


class GatewayError(DemurError):
    """The proxy did not start."""


def missing() -> str | None:
    """What keeps a proxy from starting here, and the remedy."""
    absent = [name for name in _PROXY_PACKAGES if find_spec(name) is None]
    if not absent and _script() is not None:
        return None
    lacking = ", ".join(absent) or "the command litellm"
    return f"LiteLLM's proxy is not installed (no {lacking}); run: pip install 'demur[proxy]'"


class Gateway:
    """The process, from construction to the end of its ``with`` block."""

    def __init__(self, folder: Path, models: Iterable[str], base_url: str, policy: Path) -> None:
        self._log = folder / "proxy.log"
        self._config = folder / "config.yaml"
        # YAML reads JSON.
        settings = json.dumps(_settings(models, base_url, policy), indent=2)
        self._config.write_text(settings, encoding="utf-8")
        port = _free_port()
        self.origin = f"http://127.0.0.1:{port}"
        self.boot_seconds = 0.0
        self._since = time.monotonic()
        self._process = self._start(port)

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        own = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",  # no .env file of whatever folder lies above
            "NO_PROXY": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
        }
        passed = {name: value for name, value in os.environ.items() if name.upper() in _PASSED_ON}
        command = [str(_script()), "--config", str(self._config), "--host", "127.0.0.1"]
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - the script of this very environment
                [*command, "--port", str(port)],
                cwd=self._config.parent,
                env={**passed, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops it
            )

    def wait_until_up(self) -> None:
        """Raises ``GatewayError`` if it exits, or is not up in ``BOOT_SECONDS``."""
        opener = build_opener(ProxyHandler({}))
        while (waited := time.monotonic() - self._since) < BOOT_SECONDS:
            if (status := self._process.poll()) is not None:
                raise GatewayError(f"the proxy ended with exit status {status}")
            try:
                with opener.open(f"{self.origin}/health/liveliness", timeout=2):
                    self.boot_seconds = time.monotonic() - self._since
                    return
            except OSError:
                time.sleep(0.1)
        raise GatewayError(f"the proxy was not up after {waited:.0f} s")

    def log(self, lines: int = 25) -> str:
        """The last lines the process wrote."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _script() -> str | None:
    return shutil.which("litellm", path=sysconfig.get_path("scripts"))


def _settings(models: Iterable[str], base_url: str, policy: Path) -> dict[str, Any]:
    upstream = {"api_base": base_url, "api_key": "none"}
    return {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **upstream}}
            for name in models
        ],
        "guardrails": [
            {
                "guardrail_name": "demur",
                "litellm_params": {
                    "guardrail": "demur.adapters.litellm.DemurGuardrail",
                    "mode": ["pre_call", "post_call"],
                    "default_on": True,
                    "demur": {"policy": str(policy)},
                },
            }
        ],
        "general_settings": {"master_key": KEY},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
