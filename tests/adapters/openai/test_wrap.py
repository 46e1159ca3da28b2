"""What ``demur.wrap`` gives: the caller's own class, and nothing of the caller's changed."""

from __future__ import annotations

import gc
import subprocess
import sys

import openai
import pytest
from openai_stage import ANSWER, MESSAGES, REFUSAL, retrying

import demur
from demur.policy import load_policy
from demur.testing import PhraseDetector, Reply


def test_the_wrapped_client_is_of_the_same_class_and_the_original_unchanged(caller, serve):
    """isinstance holds, names are the same, and the client given still gets refusals."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.client(upstream)
    _ = client.chat.completions
    before = dict(vars(client))
    wrapped = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    assert isinstance(wrapped, type(client))
    assert type(wrapped).__qualname__ == type(client).__qualname__
    assert vars(client) == before
    assert caller.create(client).choices[0].message.content == REFUSAL
    assert caller.create(wrapped).choices[0].message.content == ANSWER


def test_copies_of_a_wrapped_client_are_wrapped(caller, serve):
    """``copy`` and ``with_options`` keep the policy."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream).with_options(timeout=9).copy(max_retries=1)
    assert (client.timeout, client.max_retries) == (9, 1)
    assert caller.create(client).choices[0].message.content == ANSWER


def test_wrapping_again_replaces_the_policy(caller, serve):
    """A second wrap does not judge twice: the last policy holds."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(REFUSAL), third=Reply(ANSWER))
    client = demur.wrap(caller.wrap(upstream), fallbacks=["third"], detector=PhraseDetector())
    completion = caller.create(client)
    assert completion.choices[0].message.content == ANSWER
    assert not upstream.calls("second")


def test_the_default_policy_tags_and_never_retries(caller, serve):
    """Without policy and fallbacks a refusal is tagged, logged, and returned."""
    upstream = serve(primary=Reply(REFUSAL))
    client = demur.wrap(caller.client(upstream), detector=PhraseDetector())
    completion = caller.create(client)
    assert completion.choices[0].message.content == REFUSAL
    assert demur.outcome_of(completion).verdict.label == "refusal"
    assert len(upstream.requests) == 1


def test_subclasses_of_the_client_keep_their_own_methods(caller, serve):
    """A user's own client class is wrapped as it is."""
    base = openai.OpenAI if caller.kind == "sync" else openai.AsyncOpenAI

    class Mine(base):
        def greet(self):
            return "hello"

    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    mine = Mine(api_key="x", base_url=upstream.base_url)
    wrapped = demur.wrap(mine, fallbacks=["second"], detector=PhraseDetector())
    assert wrapped.greet() == "hello"
    assert isinstance(wrapped, Mine)
    assert caller.create(wrapped).choices[0].message.content == ANSWER
    caller.wait(mine.close())


@pytest.mark.parametrize("pinned", [None, "primary"])
def test_azure_fallbacks_change_the_deployment(caller, serve, pinned):
    """On Azure the model is in the URL; a fallback's is, also where the client is bound to one."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    cls = openai.AzureOpenAI if caller.kind == "sync" else openai.AsyncAzureOpenAI
    client = cls(
        api_key="x",
        api_version="2024-10-21",
        base_url=f"{upstream.base_url}/openai" + (f"/deployments/{pinned}" if pinned else ""),
    )
    wrapped = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    completion = caller.create(wrapped)
    assert completion.choices[0].message.content == ANSWER
    assert "/deployments/second/" in upstream.requests[1].path
    caller.wait(client.close())


def test_what_is_no_client_is_refused_with_its_name():
    """A wrong argument gets an error that says what was given and what is wanted."""
    with pytest.raises(demur.UnsupportedClientError, match=r"OpenAI.*builtins\.str"):
        demur.wrap("client")


def test_bad_arguments_get_clear_errors(caller, serve):
    """Both policy and fallbacks, a bare string, or a target of the wrong kind are told apart."""
    client = caller.client(serve())
    other = openai.AsyncOpenAI if caller.kind == "sync" else openai.OpenAI
    with pytest.raises(demur.PolicyError, match="both policy and fallbacks"):
        demur.wrap(client, policy={"version": 1}, fallbacks=["second"])
    with pytest.raises(demur.PolicyError, match="must be a list"):
        demur.wrap(client, fallbacks="second")
    with pytest.raises(demur.PolicyError, match="targets"):
        demur.wrap(client, fallbacks=["x"], targets={"x": other(api_key="x")})
    with pytest.raises(demur.PolicyError, match="model"):
        demur.wrap(client, fallbacks=[{"temperature": 1}])


def test_importing_demur_loads_no_sdk_and_no_model_runtime():
    """``import demur`` is light; the SDKs come with the adapters."""
    code = (
        "import sys, demur, demur.cli; "
        "heavy = {'openai', 'litellm', 'torch', 'onnxruntime', 'transformers'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_detector_is_written_with_is_at_hand():
    """All names that ``demur`` promises are there, those that cost an import when asked for."""
    code = (
        "import sys, demur\n"
        "assert {'Detector', 'Policy', 'Label', 'Kind', 'Ending'} <= set(demur.__all__)\n"
        "assert not {'demur.detection', 'demur.policy', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "for name in demur.__all__: getattr(demur, name)\n"
        "from demur.detection import Detector\n"
        "assert demur.Detector is Detector\n"
        "assert not hasattr(demur, 'Nothing')\n"
        "assert set(demur.__all__) <= set(dir(demur))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_openai_wrap_says_what_to_install():
    """A missing SDK is an error that names the extra."""
    code = (
        "import sys; sys.modules['openai'] = None\n"
        "import demur\n"
        "try: demur.wrap(object())\n"
        "except demur.MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'demur[openai]'" in done.stdout, done.stderr


def test_logged_records_hold_no_content(caller, serve, caplog):
    """The log action writes a line a request, without prompt or response text."""
    caplog.set_level("INFO", logger="demur")
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    secret = [{"role": "user", "content": "my secret question"}]
    caller.create(caller.wrap(upstream), messages=secret)
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("demur")]
    assert lines
    for word in ("secret", "sorry", "blue one"):
        assert not any(word in line for line in lines)
    assert MESSAGES


def test_a_plain_clients_base_url_is_kept_whole(caller, serve):
    """Only on Azure does ``/deployments/`` name a model; elsewhere it is a part of the address."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream, {"base_url": f"{upstream.origin}/gw/deployments/team-a/v1"})
    assert caller.create(client).choices[0].message.content == ANSWER
    assert len({request.path for request in upstream.requests}) == 1


def test_a_target_with_a_key_of_its_own_and_no_address(caller, serve, monkeypatch):
    """``api_key_env`` without ``base_url`` calls the wrapped client's host with that key."""
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream, policy=keyed())
    assert caller.create(client).choices[0].message.content == ANSWER
    keys = [request.headers["authorization"] for request in upstream.requests]
    assert keys == ["Bearer sk-test", "Bearer sk-other"]
    monkeypatch.delenv("OTHER_KEY")
    with pytest.raises(demur.PolicyError, match="OTHER_KEY"):
        caller.wrap(upstream, policy=keyed())


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_targets_own_key_beats_the_clients_default_header(caller, serve, monkeypatch, name):
    """A client that sends its credential as a header of its own does not do so for that target."""
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    sdk = {"default_headers": {name: "Bearer gateway", "x-team": "a"}}
    client = caller.wrap(upstream, sdk, policy=keyed())
    assert caller.create(client).choices[0].message.content == ANSWER
    sent = [(r.headers["authorization"], r.headers["x-team"]) for r in upstream.requests]
    assert sent == [("Bearer gateway", "a"), ("Bearer sk-other", "a")]


def test_a_target_with_a_key_of_its_own_on_azure(caller, serve, monkeypatch):
    """The key takes the place of the client's token, and the model that of its deployment."""
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    cls = openai.AzureOpenAI if caller.kind == "sync" else openai.AsyncAzureOpenAI
    client = cls(
        azure_ad_token="token",
        api_version="2024-10-21",
        base_url=f"{upstream.base_url}/openai/deployments/primary",
    )
    wrapped = demur.wrap(client, policy=keyed(), detector=PhraseDetector())
    assert caller.create(wrapped).choices[0].message.content == ANSWER
    sent = upstream.requests[1]
    assert "/deployments/second/" in sent.path
    assert sent.headers["api-key"] == "sk-other"
    assert "token" not in str(sent.headers)
    caller.wait(client.close())


def test_a_client_whose_provider_authenticates_takes_no_other_key(caller, serve, monkeypatch):
    """That is a fault of the policy's, told as one."""
    providers = pytest.importorskip("openai.providers")
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    bedrock = providers.bedrock(base_url=upstream.base_url, api_key="x", region="us-east-1")
    cls = openai.OpenAI if caller.kind == "sync" else openai.AsyncOpenAI
    client = cls(provider=bedrock, max_retries=0)
    with pytest.raises(demur.PolicyError, match=r"targets\.t\.api_key_env.*provider"):
        demur.wrap(client, policy=keyed())
    wrapped = demur.wrap(client, fallbacks=["second"], detector=PhraseDetector())
    assert caller.create(wrapped).choices[0].message.content == ANSWER
    caller.wait(client.close())


def keyed():
    policy = retrying(fallbacks=["t"])
    return {**policy, "targets": {"t": {"model": "second", "api_key_env": "OTHER_KEY"}}}


def test_closing_a_copy_leaves_the_targets_open(caller, serve):
    """Clients made for targets are closed with the client that ``wrap`` gave, and no earlier."""
    here, elsewhere = serve(primary=Reply(REFUSAL)), serve(llama=Reply(ANSWER))
    policy = retrying(fallbacks=["t"])
    policy["targets"] = {"t": {"model": "llama", "base_url": elsewhere.base_url}}
    client = caller.wrap(here, policy=policy)
    http = openai.DefaultHttpxClient if caller.kind == "sync" else openai.DefaultAsyncHttpxClient
    copy = client.with_options(http_client=http())
    assert caller.create(copy).choices[0].message.content == ANSWER
    caller.wait(copy.close())
    assert caller.create(client).choices[0].message.content == ANSWER


@pytest.mark.parametrize("key", ["timeout", "extra_headers", "extra_query", "extra_body"])
def test_arguments_of_the_sdk_are_no_patch(caller, serve, key):
    """A patch sets fields of the request's body; what would only go astray there is refused."""
    with pytest.raises(demur.PolicyError, match=key):
        caller.wrap(serve(), fallbacks=[{"model": "second", key: {"a": "b"}}])


def test_a_client_that_no_rule_uses_is_told(caller, serve, caplog):
    """A misspelt name among ``targets`` shows in the log."""
    upstream = serve()
    caller.wrap(upstream, targets={"secnd": caller.client(upstream)})
    assert "'secnd'" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fallbacks": [5]}, "fallbacks must be a list"),
        ({"fallbacks": 5}, "fallbacks must be a list"),
        ({"fallbacks": []}, "fallbacks is empty; name a model, or leave it out"),
        ({"detector": 5}, "detector must have"),
        ({"targets": ["second"]}, "targets must be a mapping of names to clients, not list"),
    ],
)
def test_wrong_arguments_are_policy_errors(caller, serve, wrong, told):
    """What cannot be a fallback, target or detector is named when the client is wrapped."""
    with pytest.raises(demur.PolicyError, match=told):
        demur.wrap(caller.client(serve(primary=Reply(ANSWER))), **wrong)


UNLOADABLE = {"stages": ["transformer"], "transformer": {"model": "/no/such/folder"}}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rule": {"fallbacks": [{"model": "second", "timeout": 1}]}}, "timeout"),
        (
            {"rule": {"fallbacks": ["t"]}, "targets": {"t": {"model": "m", "api_key_env": "NO"}}},
            "NO",
        ),
        ({"shared": {"redis_env": "NO"}, "budgets": [{"calls": 1, "per": 60}]}, "redis_env"),
        ({"budgets": [{"cost": 1.0, "per": 60}]}, "no price"),
    ],
)
def test_a_policy_is_checked_before_a_model_loads(caller, serve, monkeypatch, wrong, told):
    """What is wrong with a policy is said before anything that takes long is made ready."""
    monkeypatch.delenv("NO", raising=False)
    more = {key: value for key, value in wrong.items() if key != "rule"}
    policy = {**retrying(**wrong.get("rule", {})), "detector": UNLOADABLE, **more}
    with pytest.raises(demur.PolicyError, match=told):
        demur.wrap(caller.client(serve()), policy=policy)


def test_a_client_that_is_not_wrapped_leaves_no_other_open(caller, serve):
    """Where ``wrap`` raises, no client has been made for the policy's targets."""
    policy = retrying(fallbacks=["t"])
    policy["targets"] = {"t": {"model": "llama", "base_url": "http://127.0.0.1:9/v1"}}
    client = caller.client(serve())
    client.chat.completions.create = lambda **_: None
    before = clients_alive(type(client))
    with pytest.raises(demur.UnsupportedClientError) as raised:
        demur.wrap(client, policy=policy, detector=PhraseDetector())
    assert clients_alive(type(client)) == before
    assert raised.tb is not None


def clients_alive(kind):
    """How many plain ones anything holds on to, as a traceback does."""
    gc.collect()  # those of other tests
    return sum(type(thing) is kind for thing in gc.get_objects())


def test_a_policy_object_is_warned_about_like_any_other(caller, serve, caplog):
    """What is suspicious is logged, whether the policy came as a mapping or was built before."""
    policy = load_policy({**retrying(fallbacks=["second", "second"])})
    caplog.clear()
    caller.wrap(serve(), policy=policy)
    assert "is in the chain already" in caplog.text


def test_settings_for_litellm_alone_are_told(caller, serve, caplog):
    """A client does nothing about them, and says so; what it does about the rest is as ever."""
    with_some = retrying(provider_errors=True)
    with_some["rules"][0]["stream"] = {"tell": "comment"}
    with_some |= {"shared": {"prefix": "p"}, "budgets": [{"calls": 9}]}
    caller.wrap(serve(primary=Reply(ANSWER)), policy=with_some)
    told = [r.getMessage() for r in caplog.records if "it is for LiteLLM" in r.getMessage()]
    assert len(told) == 3
    assert all(
        any(name in each for each in told)
        for name in ("r: retry.provider_errors", "r: stream.tell", "shared without redis_env")
    )
