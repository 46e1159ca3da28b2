"""Proxies that remember: breaker, stickiness and budgets, shared between two by one Redis."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml
from proxy_scene import REFUSAL, SCRIPT, SECOND, rule
from proxy_stage import LIMITED_KEY, MASTER_KEY, Proxy, skip_without_proxy

from demur.testing import Reply, Upstream

openai = pytest.importorskip("openai")

BREAKER = {"least": 2, "window": 600.0, "pause": 600.0}
SHARED = {"seconds": 10.0}  # this machine may have much else to do
FOREVER = {"per": 3600.0}


POLICY = {
    "version": 1,
    "rules": [
        rule("breaking", "second", breaker=BREAKER),
        rule("breaking-stream", "second", breaker=BREAKER),
        rule("primary", "second", breaker=BREAKER),
        rule("quick", "second", breaker={**BREAKER, "least": 1, "pause": 5.0}),
        rule("to-broken", "broken", breaker={**BREAKER, "least": 1}),
        rule("to-broken-then", "broken", "second", breaker={**BREAKER, "least": 1}),
        rule("to-forbidden", "forbidden", breaker={**BREAKER, "least": 1}),
        rule("to-stubborn", "stubborn", "second", breaker={**BREAKER, "least": 1}),
        rule(
            "patching", {"model": "second", "temperature": 0.25}, "stubborn",
            breaker={**BREAKER, "least": 1},
        ),
        rule("probing", "second", breaker={**BREAKER, "least": 1, "pause": 3.0}),
        rule("surfaces", "second", breaker={**BREAKER, "least": 1}),
        rule("sticking", "stubborn", "second", sticky={}),
        rule("shadowed", "second", breaker={**BREAKER, "least": 1}) | {"mode": "shadow"},
        {"name": "rest", "actions": ["tag", "log"]},
    ],
    "shared": SHARED,
}  # fmt: skip
BUDGETED = {
    "version": 1,
    "rules": [rule("spending", "second"), rule("costing", "second")],
    "budgets": [
        {"calls": 2, "by": "key", **FOREVER},
        {"cost": 0.00001, "by": "purse", **FOREVER},
    ],
}
GROUPS = {
    "second": "m-second",
    "stubborn": "m-also-refusing",
    "broken": "m-broken",
    "forbidden": "m-forbidding",
    "quick": "m-quick",
    **dict.fromkeys(
        [
            "breaking", "breaking-stream", "primary", "to-broken", "to-broken-then", "to-forbidden",
            "to-stubborn", "patching", "sticking", "surfaces", "probing", "shadowed", "spending",
            "costing",
        ],
        "m-refusing",
    ),
}  # fmt: skip


class WithRedis(Proxy):
    """A proxy that has a Redis of its own, and caches no responses in it."""

    redis_url = ""

    def _start(self) -> subprocess.Popen[bytes]:
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        if self.redis_url:
            config["litellm_settings"]["cache"] = True
            config["litellm_settings"]["cache_params"] = {
                "type": "redis", "url": self.redis_url, "supported_call_types": [],
            }  # fmt: skip
        path.write_text(yaml.safe_dump(config))
        return super()._start()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    quick = [Reply(REFUSAL), Reply(REFUSAL), Reply("Sure, it is Lisbon.")]
    with Upstream({**SCRIPT, "m-quick": quick}) as server:
        yield server


@pytest.fixture(scope="module")
def pair(
    upstream: Upstream, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Proxy, Proxy]]:
    """Two replicas: one finds LiteLLM's own Redis, the policy of the other names it."""
    skip_without_proxy()
    folder: Path = tmp_path_factory.mktemp("replicas")
    common: dict[str, Any] = {"base_url": upstream.base_url, "models": GROUPS}
    naming = {**POLICY, "shared": {**SHARED, "redis_env": "DEMUR_TEST_SHARED"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEMUR_TEST_SHARED", redis_url)
        patch.setattr(WithRedis, "redis_url", redis_url)
        one = WithRedis(folder / "one", policy=POLICY, **common)
        patch.setattr(WithRedis, "redis_url", "")
        two = WithRedis(folder / "two", policy=naming, **common)
    with one, two:
        yield one.wait_until_up(), two.wait_until_up()


@pytest.fixture(scope="module")
def budgeted(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy without any Redis: it remembers for itself."""
    skip_without_proxy()
    folder: Path = tmp_path_factory.mktemp("budgeted")
    settings: dict[str, Any] = {"base_url": upstream.base_url, "models": GROUPS}
    with Proxy(folder, policy=BUDGETED, **settings) as proxy:
        yield proxy.wait_until_up()


class Answer:
    """What a caller of a proxy got, and which models were called for it."""

    def __init__(
        self,
        upstream: Upstream,
        proxy: Proxy,
        model: str,
        *,
        key: str = MASTER_KEY,
        stream: bool = False,
        **fields: Any,
    ) -> None:
        before = len(upstream.requests)
        asked = {"messages": [{"role": "user", "content": "?"}], **fields}
        with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0) as client:
            raw = client.chat.completions.with_raw_response.create(
                model=model, stream=stream, timeout=60, **asked
            )
            self.headers = raw.headers
            parsed = raw.parse()
            if stream:
                chunks = list(parsed)
                self.model = chunks[0].model
                self.text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            else:
                self.model = parsed.model
                self.text = parsed.choices[0].message.content
        self.bodies = [request.body for request in upstream.requests[before:]]
        self.called = [body["model"] for body in self.bodies]

    @property
    def started(self) -> str | None:
        return self.headers.get("x-demur-started")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_replicas_agree_on_a_breaker(
    upstream: Upstream, pair: tuple[Proxy, Proxy], stream: bool
) -> None:
    """What one proxy saw refused, the other one does not ask for again."""
    one, two = pair
    model = "breaking-stream" if stream else "breaking"
    for proxy in (one, two):
        answer = Answer(upstream, proxy, model, stream=stream)
        assert (answer.called, answer.started) == (["m-refusing", "m-second"], None)
    for proxy in (one, two):
        answer = Answer(upstream, proxy, model, stream=stream)
        assert answer.called == ["m-second"]
        assert answer.text == SECOND
        assert answer.started == "breaker"
        assert answer.headers["x-demur-served-model"] == "second"
        assert answer.headers["x-litellm-model-group"] == "second"
        assert int(answer.headers["x-litellm-attempted-fallbacks"]) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("named", ["metadata", "header"])
def test_replicas_agree_on_a_conversation(
    upstream: Upstream, pair: tuple[Proxy, Proxy], stream: bool, named: str
) -> None:
    """A conversation that one proxy had answered elsewhere goes on there through the other."""
    one, two = pair
    name = uuid.uuid4().hex
    said: dict[str, Any] = (
        {"extra_body": {"metadata": {"conversation_id": name}}}
        if named == "metadata"
        else {"extra_headers": {"x-demur-conversation": name}}
    )
    first = Answer(upstream, one, "sticking", stream=stream, **said)
    assert first.called == ["m-refusing", "m-also-refusing", "m-second"]
    for proxy in (two, one):
        answer = Answer(upstream, proxy, "sticking", stream=stream, **said)
        assert (answer.called, answer.text) == (["m-second"], SECOND)
        assert answer.started == "sticky"
    assert Answer(upstream, two, "sticking", stream=stream).started is None


def test_replicas_probe_once(upstream: Upstream, pair: tuple[Proxy, Proxy]) -> None:
    """After the pause one request tries the model again; answered, it is used by all as before."""
    one, two = pair
    assert Answer(upstream, one, "quick").called == ["m-quick", "m-second"]
    assert Answer(upstream, two, "quick").started == "breaker"
    _until(lambda: Answer(upstream, two, "quick").started == "probe")
    assert [Answer(upstream, proxy, "quick").started for proxy in pair] == ["breaker"] * 2
    _until(lambda: Answer(upstream, one, "quick").started == "probe")
    for proxy in pair:
        answer = Answer(upstream, proxy, "quick")
        assert (answer.called, answer.started) == (["m-quick"], None)


def test_of_many_at_once_one_probes(upstream: Upstream, pair: tuple[Proxy, Proxy]) -> None:
    """When the pause is over and requests come to both proxies together, one tries the model."""
    pause = 3.0
    while Answer(upstream, pair[0], "probing").started is None:
        pass
    time.sleep(pause)
    start = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: Answer(upstream, pair[n % 2], "probing"), range(12)))
    started = [answer.started for answer in answers]
    assert set(started) == {"breaker", "probe"}
    assert {answer.text for answer in answers} == {SECOND}
    # Refused, the breaker pauses again; another probe is due only after that.
    assert started.count("probe") <= 1 + (time.monotonic() - start) // pause


def _until(happens: Any) -> None:
    end = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("model", "called", "text"),
    [
        ("to-broken", ["m-broken", "m-refusing"], REFUSAL),
        ("to-broken-then", ["m-broken", "m-second"], SECOND),
        ("to-forbidden", ["m-forbidding", "m-refusing"], REFUSAL),
        ("to-stubborn", ["m-also-refusing", "m-second"], SECOND),
    ],
)
def test_what_follows_a_start(
    upstream: Upstream,
    pair: tuple[Proxy, Proxy],
    model: str,
    called: list[str],
    text: str,
    stream: bool,
) -> None:
    """The chain goes on whatever becomes of its first; if nobody answers, the caller's own call."""
    proxy = pair[0]
    while (answer := Answer(upstream, proxy, model, stream=stream)).started is None:
        pass
    assert list(dict.fromkeys(answer.called)) == called
    assert answer.text == text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("surface", ["messages", "responses"])
def test_other_surfaces(
    upstream: Upstream, pair: tuple[Proxy, Proxy], surface: str, stream: bool
) -> None:
    """A request in another API's shape starts where one in chat's shape would."""
    said: dict[str, Any] = (
        {"messages": [{"role": "user", "content": "?"}], "max_tokens": 99}
        if surface == "messages"
        else {"input": "?"}
    )
    body = json.dumps({"model": "surfaces", "stream": stream, **said}).encode()
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    request = Request(f"{pair[0].url}/v1/{surface}", body, headers)
    while True:
        before = len(upstream.requests)
        with urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
            if answer.headers["x-demur-started"] is not None:
                break
    assert [made.body["model"] for made in upstream.requests[before:]] == ["m-second"]
    assert "Lis" in text
    assert "sorry" not in text


def test_a_patched_start(upstream: Upstream, pair: tuple[Proxy, Proxy]) -> None:
    """The fallback that is asked first gets its patch, over the caller's own field."""
    while (answer := Answer(upstream, pair[0], "patching", temperature=0.9)).started is None:
        pass
    assert [(b["model"], b["temperature"]) for b in answer.bodies] == [("m-second", 0.25)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_start_needs_rights(upstream: Upstream, pair: tuple[Proxy, Proxy], stream: bool) -> None:
    """A key without the right to the fallback gets the model it asked for, and its answer."""
    for _ in range(2):
        Answer(upstream, pair[0], "primary", stream=stream)
    assert Answer(upstream, pair[0], "primary", stream=stream).started == "breaker"
    answer = Answer(upstream, pair[0], "primary", stream=stream, key=LIMITED_KEY)
    assert (answer.called, answer.text) == (["m-refusing"], REFUSAL)
    assert answer.headers.get("x-demur-limited") == "rights"


def test_shadow_mode(upstream: Upstream, pair: tuple[Proxy, Proxy]) -> None:
    """The requested model answers; the header says what would have been done."""
    answers = [Answer(upstream, pair[0], "shadowed") for _ in range(2)]
    assert [answer.called for answer in answers] == [["m-refusing"]] * 2
    assert answers[1].started == "breaker"


def test_rows_of_a_start(upstream: Upstream, pair: tuple[Proxy, Proxy]) -> None:
    """One row, of the model that was called, tagged with why it was."""
    proxy = pair[1]
    for _ in range(2):
        Answer(upstream, proxy, "breaking")
    answer = Answer(upstream, proxy, "breaking")
    (row,) = proxy.records(answer.headers["x-litellm-call-id"], 1)
    assert (row["status"], row["model_group"]) == ("success", "second")
    assert {"demur:served:second", "demur:started:breaker"} <= set(row["request_tags"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_budget_for_each_key(upstream: Upstream, budgeted: Proxy, stream: bool) -> None:
    """A key's retries are counted; beyond its budget it gets the refusal. Another has its own."""
    key = f"sk-{uuid.uuid4().hex}"

    def ask(key: str) -> Answer:
        own = {"metadata": {"purse": uuid.uuid4().hex}}
        return Answer(upstream, budgeted, "spending", key=key, stream=stream, extra_body=own)

    for _ in range(2):
        assert ask(key).called == ["m-refusing", "m-second"]
    answer = ask(key)
    assert (answer.called, answer.text) == (["m-refusing"], REFUSAL)
    assert answer.headers["x-demur-limited"] == "budget"
    assert ask(f"{key}x").called == ["m-refusing", "m-second"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_budget_of_cost(upstream: Upstream, budgeted: Proxy, stream: bool) -> None:
    """LiteLLM knows what its models cost: one fallback is more than there is to spend."""
    purse = {"metadata": {"purse": uuid.uuid4().hex}}
    called = [
        Answer(upstream, budgeted, "costing", key=f"sk-{uuid.uuid4().hex}", stream=stream,
               extra_body=purse).called
        for _ in range(2)
    ]  # fmt: skip
    assert called == [["m-refusing", "m-second"], ["m-refusing"]]
