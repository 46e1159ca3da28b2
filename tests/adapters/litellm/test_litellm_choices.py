"""Who gets the guardrail, where it is not on for everybody; and its policy, changed as it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from proxy_scene import REFUSAL, SECOND
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Upstream

ASK: Any = [{"role": "user", "content": "What is the capital of Portugal?"}]
GROUPS = {"primary": "m-refusing", "guarded": "m-refusing", "second": "m-second"}
POLICY: dict[str, Any] = {
    "version": 1,
    "rules": [
        {
            "name": "retry",
            "match": {"model": ["primary", "guarded"]},
            "actions": ["tag", "log", "retry"],
            "retry": {"fallbacks": ["second"]},
        },
        {"name": "rest"},
    ],
    "metrics": ["prometheus"],
}


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose guardrail is off by default."""
    skip_without_proxy()
    folder = tmp_path_factory.mktemp("choices")
    settings: Any = {"base_url": upstream.base_url, "models": GROUPS, "policy": POLICY}
    with Proxy(
        folder, default_on=False, callbacks=["prometheus"], guarded=["guarded"], **settings
    ) as running:
        yield running.wait_until_up()


def ask(proxy: Proxy, model: str, **more: Any) -> str:
    whole, streamed = both(proxy, model, **more)
    assert streamed == whole
    return whole


def both(proxy: Proxy, model: str, **more: Any) -> tuple[str, str]:
    """What a whole response and then a streamed one say."""
    import openai

    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        whole = client.chat.completions.create(model=model, messages=ASK, **more)
        stream = client.chat.completions.create(model=model, messages=ASK, stream=True, **more)
        texts = [c.choices[0].delta.content or "" for c in stream if c.choices]
    return whole.choices[0].message.content, "".join(texts)


def test_off_unless_asked_for(proxy: Proxy) -> None:
    """Nobody asked for it: the refusal is served. The request asks for it: it is replaced."""
    assert ask(proxy, "primary") == REFUSAL
    assert ask(proxy, "primary", extra_body={"guardrails": ["demur"]}) == SECOND
    assert ask(proxy, "primary", extra_body={"guardrails": ["another"]}) == REFUSAL


def test_opting_out_all_the_same(proxy: Proxy) -> None:
    """``demur: off`` wins over the lists of guardrails."""
    off = {"metadata": {"demur": "off"}}
    assert ask(proxy, "primary", extra_body={"guardrails": ["demur"], **off}) == REFUSAL
    assert ask(proxy, "guarded", extra_body=off) == REFUSAL


def test_model_that_wants_it(proxy: Proxy) -> None:
    """A model group's own list of guardrails brings it."""
    assert ask(proxy, "guarded") == SECOND


def test_policy_is_reloaded(proxy: Proxy) -> None:
    """A changed policy is used without a restart; a bad one is not, and log and metrics say so."""
    path = proxy.folder / "policy.yaml"
    shadow = {**POLICY, "mode": "shadow"}
    _replace(path, yaml.safe_dump(shadow))
    assert _within(20, lambda: both(proxy, "guarded") == (REFUSAL, REFUSAL))
    _replace(path, "version: 1\nrules:\n  - {name: x, actoins: [tag]}\n")
    assert _within(20, lambda: "rules[0].actoins: unknown key" in proxy.log())
    assert ask(proxy, "guarded") == REFUSAL
    _replace(path, yaml.safe_dump(POLICY))
    assert _within(20, lambda: both(proxy, "guarded") == (SECOND, SECOND))
    with urlopen(f"{proxy.url}/metrics/", timeout=20) as answer:
        page = answer.read().decode()
    assert 'demur_policy_reloads_total{outcome="failed"} 1.0' in page
    assert 'demur_policy_reloads_total{outcome="done"} 2.0' in page


def _replace(path: Path, text: str) -> None:
    """As editors and Kubernetes do it: the new file takes the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return held
