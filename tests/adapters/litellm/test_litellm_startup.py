"""A guardrail that cannot work must keep the proxy from starting, and say why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from proxy_stage import Proxy, skip_without_proxy

from demur.errors import PolicyError

pytest.importorskip("litellm")

from demur.adapters.litellm import DemurGuardrail

MODES = ["pre_call", "post_call"]


def test_proxy_does_not_start(tmp_path: Path) -> None:
    """A bad policy or mode ends the process with a message, instead of a proxy without demur."""
    skip_without_proxy()
    common: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "models": {"primary": "m"}}
    typo = "version: 1\nrules:\n  - {name: x, actoins: [tag]}\n"
    with (
        Proxy(tmp_path / "typo", policy=typo, **common) as bad_policy,
        Proxy(tmp_path / "mode", policy="version: 1\n", mode=["post_call"], **common) as bad_mode,
    ):
        assert bad_policy.wait_until_exit(60) != 0
        assert "policy.yaml:3: rules[0].actoins: unknown key" in bad_policy.log()
        assert bad_mode.wait_until_exit(60) != 0
        assert "needs mode: [pre_call, post_call]" in bad_mode.log()


class ByVariable(Proxy):
    """Its policy's path is in a variable of the environment, which is not set."""

    def _start(self) -> subprocess.Popen[bytes]:
        path = self.folder / "config.yaml"
        named = path.read_text().replace("policy.yaml", "os.environ/DEMUR_TEST_NOT_SET")
        path.write_text(named)
        return super()._start()


def test_a_variable_that_is_not_set(tmp_path: Path) -> None:
    """It ends the process with a message, instead of a proxy with the default policy."""
    skip_without_proxy()
    common: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "models": {"primary": "m"}}
    with ByVariable(tmp_path, policy="version: 1\n", **common) as proxy:
        assert proxy.wait_until_exit(60) != 0
        assert "the key 'demur' has an empty policy; set the variable" in proxy.log()


@pytest.mark.parametrize(
    "arguments",
    [
        {"demur": {"policy": "there-is-none.yaml"}},
        {"demur": {"polcy": "policy.yaml"}},
        {"demur": {"policy": ""}},
        {"demur": {"policy": None}},
        {"demur": "policy.yaml"},
        {"policy": {"version": 2}},
        {"detector": 5},
        {"event_hook": "post_call"},
        {"event_hook": ["pre_call", "during_call"]},
        {"event_hook": MODES, "scan_raw_request": True},
        {"event_hook": SimpleNamespace(tags={}, default=MODES)},
    ],
    ids=str,
)
def test_bad_configuration(arguments: dict[str, Any]) -> None:
    """LiteLLM starts without a guardrail that raises ValueError or TypeError: this is neither."""
    with pytest.raises(PolicyError) as caught:
        DemurGuardrail(**arguments)
    assert not isinstance(caught.value, ValueError | TypeError)


def test_policy_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts in the working directory, else beside the proxy's configuration."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "policy.yaml").write_text("version: 1\nmode: shadow\n")
    server = SimpleNamespace(user_config_file_path=os.fspath(tmp_path / "etc" / "config.yaml"))
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", server)
    monkeypatch.chdir(tmp_path)
    assert DemurGuardrail(demur={"policy": "policy.yaml"})._setups.current.policy.mode == "shadow"
    (tmp_path / "policy.yaml").write_text("version: 1\nmode: enforce\n")
    assert DemurGuardrail(demur={"policy": "policy.yaml"})._setups.current.policy.mode == "enforce"


def test_loaded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As guardrail and as callback, or as two guardrails, also of one name, of which LiteLLM would
    keep the first: refused. Loaded anew: replaced."""
    import litellm

    monkeypatch.setattr(litellm, "callbacks", [DemurGuardrail()])
    with pytest.raises(PolicyError, match=r"loaded twice: as a callback .* guardrail 'demur'"):
        DemurGuardrail(event_hook=MODES)
    DemurGuardrail()
    litellm.callbacks.clear()
    litellm.callbacks.append(DemurGuardrail(event_hook=MODES))
    DemurGuardrail(event_hook=MODES)
    with pytest.raises(PolicyError, match="loaded twice"):
        DemurGuardrail(event_hook=MODES, guardrail_name="other")
    with pytest.raises(PolicyError, match=r"loaded twice: .* 'demur', with another policy"):
        DemurGuardrail({"version": 1, "mode": "shadow"}, event_hook=MODES)
    with pytest.raises(PolicyError, match="loaded twice"):
        DemurGuardrail()


def test_other_vendors_defaults() -> None:
    """LiteLLM passes every vendor's settings to every guardrail: they are no business of ours."""
    DemurGuardrail(event_hook=MODES, guardrail_name="g", api_key=None, mask=False, on_flagged="x")
