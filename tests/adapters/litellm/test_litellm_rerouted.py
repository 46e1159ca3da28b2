"""Another guardrail, listed behind demur, that sends a request to another model."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from official import SDKS, Sdk
from proxy_scene import REFUSAL, SCRIPT, rule
from proxy_stage import GUARDRAIL, Proxy, skip_without_proxy

from demur.testing import Upstream

pytest.importorskip("openai")
pytest.importorskip("anthropic")

GROUPS = {"public": "m-second", "private": "m-refusing", "second": "m-second"}
POLICY = {"version": 1, "rules": [rule("public", "second")]}
_OTHER = """
from litellm.integrations.custom_guardrail import CustomGuardrail

class Private(CustomGuardrail):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        return {**data, "model": "private"}
"""


class Private(Proxy):
    """Everything goes to the model "private"."""

    def _start(self) -> subprocess.Popen[bytes]:
        path = self.folder / "lab.py"
        path.write_text(path.read_text() + _OTHER)
        return super()._start()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(SCRIPT) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    skip_without_proxy()
    own = {"guardrail": GUARDRAIL, "mode": ["pre_call", "post_call"], "demur": {"policy": POLICY}}
    other = {"guardrail": "lab.Private", "mode": "pre_call", "default_on": True}
    guardrails = [
        {"guardrail_name": "demur", "litellm_params": own},
        {"guardrail_name": "private", "litellm_params": other},
    ]
    with Private(
        tmp_path_factory.mktemp("rerouted"),
        base_url=upstream.base_url,
        models=GROUPS,
        policy=POLICY,
        parts={"guardrails": guardrails},
        cached=True,
    ) as started:
        yield started.wait_until_up()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.surface)
def test_the_refusal_is_served(proxy: Proxy, upstream: Upstream, sdk: Sdk, stream: bool) -> None:
    """The chain is that of another model: nobody in it is asked, and nothing is lost, also where
    the cache answers the same request again."""
    for _ in range(2):
        text, headers = sdk.ask(proxy, "public", stream=stream)
        assert text == REFUSAL
        assert (headers["x-demur-label"], headers["x-demur-attempts"]) == ("refusal", "1")
    assert not upstream.calls("m-second")
