"""Two proxies for the whole run: one as users have it, one with a moody detector and a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from proxy_scene import GROUPS, POLICY, SCRIPT
from proxy_stage import MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with Upstream(SCRIPT) as server:
        yield server


@pytest.fixture(scope="session")
def proxies(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Proxy]]:
    """Both at once: each takes seconds to start."""
    skip_without_proxy()
    folder: Path = tmp_path_factory.mktemp("proxies")
    common: dict[str, Any] = {
        "base_url": upstream.base_url,
        "models": GROUPS,
        "policy": {**POLICY, "detector": {"seconds": 0.5}},
    }
    with (
        Proxy(folder / "sane", **common) as sane,
        Proxy(folder / "moody", guardrail="lab.moody", cached=True, **common) as moody,
    ):
        yield {"sane": sane.wait_until_up(), "moody": moody.wait_until_up()}


@pytest.fixture
def proxy(proxies: dict[str, Proxy]) -> Proxy:
    return proxies["sane"]


@pytest.fixture
def moody(proxies: dict[str, Proxy]) -> Proxy:
    return proxies["moody"]


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as found:
        yield found


@pytest.fixture
def records() -> Any:
    """A logger for the SDK's calls."""
    pytest.importorskip("litellm")
    from logged import Records

    return Records()


@pytest.fixture
def callbacks(records: Any) -> Iterator[list[Any]]:
    """LiteLLM's callbacks, for one test alone: ``records``, and whatever it adds."""
    import litellm

    before = {name: list(getattr(litellm, name)) for name in _CALLBACK_LISTS}
    litellm.callbacks = [records]
    yield litellm.callbacks
    for name, value in before.items():
        setattr(litellm, name, value)


_CALLBACK_LISTS = (
    "callbacks",
    "success_callback",
    "failure_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """A failed test shows what the proxies logged."""
    outcome: Any = yield
    report = outcome.get_result()
    proxies = getattr(item, "funcargs", {}).get("proxies")
    if report.failed and proxies:
        report.sections.extend((f"log of proxy {name}", p.log()) for name, p in proxies.items())
