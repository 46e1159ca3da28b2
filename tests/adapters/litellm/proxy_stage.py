"""A real ``litellm`` proxy process for tests: its configuration, its log, what it recorded."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import yaml
from typing_extensions import Self

MASTER_KEY = "sk-master"
LIMITED_KEY = "sk-limited"  # may use the model group "primary" only
NARROW_KEY = "sk-narrow"  # one request at a time
UNWILLING_KEY = "sk-unwilling"  # its owner wants no guardrails that are not asked for
TEAM_KEY = "sk-team"  # of a team that may use the model group "primary" only
SPENT_KEY = "sk-spent"  # its budget is spent
PURSE_KEY = "purse"  # its budget lasts for a few requests
GUARDRAIL = "demur.adapters.litellm.DemurGuardrail"
START_SECONDS = 180.0

# Modules that only ``litellm[proxy]`` brings.
_PROXY_PACKAGES = ("fastapi", "uvicorn", "apscheduler", "backoff", "orjson")

# Lives beside config.yaml, as a user's own callbacks do.
_LAB = """
import json, os, threading
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.hooks.proxy_track_cost_callback import ProxyDBLogger
from demur.adapters.litellm import DemurGuardrail
from demur.detection.building import build_detector

class Records(CustomLogger):
    def _write(self, status, kwargs):
        row = kwargs.get("standard_logging_object") or {}
        fields = ("model_group", "request_tags", "total_tokens", "response_cost", "litellm_call_id")
        record = {"status": status, **{name: row.get(name) for name in fields}}
        record["guardrails"] = row.get("guardrail_information")
        record["body"] = (row.get("metadata") or {}).get("requester_metadata")
        with open(os.environ["DEMUR_TEST_RECORDS"], "a") as file:
            file.write(json.dumps(record) + "\\n")
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self._write("success", kwargs)
    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        self._write("failure", kwargs)

records = Records()
money = ProxyDBLogger()  # what counts spend where there is a database

async def auth(request, api_key):
    if api_key == "sk-limited":
        return UserAPIKeyAuth(api_key=api_key, models=["primary"])
    if api_key == "sk-narrow":
        return UserAPIKeyAuth(api_key=api_key, max_parallel_requests=1)
    if api_key == "sk-unwilling":
        return UserAPIKeyAuth(api_key=api_key, metadata={"disable_global_guardrails": True})
    if api_key == "sk-team":
        return UserAPIKeyAuth(api_key=api_key, team_id="t", team_models=["primary"])
    if api_key.startswith("purse"):
        return UserAPIKeyAuth(api_key=api_key, token=api_key, max_budget=1.1e-4, spend=0.0)
    if api_key == "sk-spent":
        return UserAPIKeyAuth(api_key=api_key, token=api_key, max_budget=1.0, spend=2.0)
    return UserAPIKeyAuth(api_key=api_key)

class Moody:
    name = "moody"
    blocking = True
    def __init__(self):
        self._sane = build_detector()
    def classify(self, evidence, *, final=True):
        if "raise" in evidence.text:
            raise RuntimeError("scripted")
        if "hang" in evidence.text:
            threading.Event().wait()
        return self._sane.classify(evidence, final=final)

def moody(**kwargs):
    return DemurGuardrail(detector=Moody(), **kwargs)
"""


def missing() -> str | None:
    """Why no proxy can be started here, if so."""
    absent = [name for name in _PROXY_PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return f"litellm's proxy extra is not installed: no {', '.join(absent)}"
    return None if _script().exists() else f"there is no {_script()}"


def skip_without_proxy() -> None:
    """Skip the test, or the fixture's, where no proxy can be started."""
    import pytest  # benchmarks use this module without

    reason = missing()
    if reason is not None:
        pytest.skip(reason)


def _script() -> Path:
    return Path(sys.executable).parent / "litellm"


class Proxy:
    """The process, from construction to the end of its ``with`` block.

    ``models`` maps model groups to the models they have at ``base_url``. ``cached`` turns on
    LiteLLM's own cache of responses. The guardrail is on for every request, or by request, key
    and the model groups in ``guarded``. ``addresses`` are parameters of models by their provider,
    ``parts`` stand in the configuration instead of its own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        base_url: str,
        models: Mapping[str, str],
        policy: Mapping[str, Any] | str,
        guardrail: str = GUARDRAIL,
        mode: Any = ("pre_call", "post_call"),
        cached: bool = False,
        default_on: bool = True,
        guarded: Collection[str] = (),
        callbacks: Collection[str] = (),
        addresses: Mapping[str, Mapping[str, Any]] | None = None,
        parts: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._log = folder / "proxy.log"
        self._records = folder / "records.jsonl"
        self._records.touch()
        text = policy if isinstance(policy, str) else yaml.safe_dump(dict(policy))
        (folder / "policy.yaml").write_text(text)
        (folder / "lab.py").write_text(_LAB)
        config = _config(base_url, models, guardrail, list(mode), cached=cached) | (parts or {})
        config["litellm_settings"]["callbacks"].extend(callbacks)
        config["guardrails"][0]["litellm_params"]["default_on"] = default_on
        for group in config["model_list"]:
            provider = group["litellm_params"]["model"].partition("/")[0]
            group["litellm_params"] |= (addresses or {}).get(provider, {})
            if group["model_name"] in guarded:
                group["litellm_params"]["guardrails"] = ["demur"]
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "DEMUR_TEST_RECORDS": str(self._records),
            "PYTHONUNBUFFERED": "1",
        }
        command = [str(_script()), "--config", "config.yaml", "--host", "127.0.0.1"]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_up(self) -> Self:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the proxy did not start:\n{self.log()}")
            try:
                with urlopen(f"{self.url}/health/liveliness", timeout=2):
                    return self
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise TimeoutError(f"the proxy was not up in {START_SECONDS:g} s:\n{self.log()}")

    def wait_until_exit(self, seconds: float = START_SECONDS) -> int:
        return self._process.wait(seconds)

    def log(self, chars: int = 8000) -> str:
        return self._log.read_text(errors="replace")[-chars:]

    def records(self, call_id: str, at_least: int) -> list[dict[str, Any]]:
        """The rows logged for a request: they are written after its response was sent."""
        return self._wait_for_rows(at_least, lambda row: row["litellm_call_id"] == call_id)

    def records_after(self, count: int, at_least: int) -> list[dict[str, Any]]:
        """The rows that have been added to the first ``count``."""
        return self._wait_for_rows(count + at_least, lambda row: True)[count:]

    def count_records(self) -> int:
        """How many rows there are once no more are coming from requests before."""
        while True:
            before = len(self.all_records())
            time.sleep(0.15)
            if len(self.all_records()) == before:
                return before

    def all_records(self) -> list[dict[str, Any]]:
        # What follows the last line's end is a row that is still being written.
        whole = self._records.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def _wait_for_rows(
        self, at_least: int, wanted: Callable[[dict[str, Any]], bool]
    ) -> list[dict[str, Any]]:
        end = time.monotonic() + 5.0
        while True:
            found = [row for row in self.all_records() if wanted(row)]
            if len(found) >= at_least or time.monotonic() > end:
                time.sleep(0.2)  # one too many would come now
                return [row for row in self.all_records() if wanted(row)]
            time.sleep(0.05)

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _config(
    base_url: str, models: Mapping[str, str], guardrail: str, mode: list[str], *, cached: bool
) -> dict[str, Any]:
    caching = {"cache": True, "cache_params": {"type": "local"}} if cached else {}
    return {
        "model_list": [
            {
                "model_name": group,
                "litellm_params": {
                    "model": model if "/" in model else f"openai/{model}",
                    "api_base": base_url,
                    "api_key": "sk-upstream",
                    "input_cost_per_token": 1e-6,
                    "output_cost_per_token": 2e-6,
                },
            }
            for group, model in models.items()
        ],
        "guardrails": [
            {
                "guardrail_name": "demur",
                "litellm_params": {
                    "guardrail": guardrail,
                    "mode": mode,
                    "default_on": True,
                    "demur": {"policy": "policy.yaml"},
                },
            }
        ],
        "litellm_settings": {"callbacks": ["lab.records", "lab.money"], **caching},
        "general_settings": {"master_key": MASTER_KEY, "custom_auth": "lab.auth"},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
