"""Whole responses through a wrapped client: detected, replaced, tagged, and otherwise untouched."""

from __future__ import annotations

import gzip
import json

import openai
import pydantic
import pytest
from openai_stage import ANSWER, MESSAGES, REFUSAL, retrying

import demur
from demur.testing import (
    HangingDetector,
    LyingDetector,
    PhraseDetector,
    RaisingDetector,
    Reply,
    ToolCall,
)


def test_a_refusal_is_replaced_by_the_fallbacks_answer(caller, serve):
    """The caller gets the fallback's completion; the outcome says whence, why and the cost."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    completion = caller.create(caller.wrap(upstream), temperature=0.7)
    assert completion.choices[0].message.content == ANSWER
    assert completion.model == "second"
    outcome = demur.outcome_of(completion)
    assert (outcome.ending, outcome.requested_model, outcome.served_model) == (
        "fell_back",
        "primary",
        "second",
    )
    assert [a.verdict.label for a in outcome.attempts] == ["refusal", "normal"]
    assert outcome.refused_usage.output_tokens == len(REFUSAL.split())
    assert outcome.added_seconds > 0
    first, second = upstream.requests
    assert second.body == {**first.body, "model": "second"}


def test_an_answer_is_returned_as_without_demur(caller, serve):
    """What is not refused equals what a plain client returns, and is asked for once."""
    upstream = serve(primary=Reply(ANSWER), second=Reply("never"))
    wrapped = caller.create(caller.wrap(upstream))
    plain = caller.create(caller.client(upstream))
    same = {"id": "", "created": 0}
    assert {**wrapped.model_dump(), **same} == {**plain.model_dump(), **same}
    assert type(wrapped) is type(plain)
    assert not upstream.calls("second")
    assert demur.outcome_of(wrapped).ending == "accepted"
    assert demur.outcome_of(plain) is None


def test_the_outcome_does_not_show_in_dumps(caller, serve):
    """A tagged completion dumps and serialises without a trace of the outcome."""
    completion = caller.create(caller.wrap(serve(primary=Reply(ANSWER))))
    assert demur.outcome_of(completion) is not None
    assert "demur" not in completion.model_dump_json()
    assert "demur" not in str(completion.model_dump())


@pytest.mark.parametrize(
    ("exhausted", "text", "model"),
    [("first", REFUSAL, "primary"), ("last", "I cannot do that.", "second")],
)
def test_exhausted_serves_the_refusal_the_policy_names(caller, serve, exhausted, text, model):
    """If the fallback refuses too, the caller gets the first or the last refusal, whole."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply("I cannot do that."))
    client = caller.wrap(upstream, policy=retrying(exhausted=exhausted))
    completion = caller.create(client)
    assert (completion.choices[0].message.content, completion.model) == (text, model)
    assert demur.outcome_of(completion).ending == "exhausted"


def test_exhausted_error_raises_with_the_outcome_and_without_text(caller, serve):
    """``exhausted: error`` raises RefusedError, which names models and labels only."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(REFUSAL))
    client = caller.wrap(upstream, policy=retrying(exhausted="error"))
    with pytest.raises(demur.RefusedError, match=r"primary: refusal.*second: refusal") as caught:
        caller.create(client)
    assert len(caught.value.outcome.attempts) == 2
    assert "sorry" not in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    [Reply("down", status=500), Reply(ANSWER, reset_after=1), Reply("what?", status=404)],
    ids=["500", "reset", "404"],
)
def test_a_fallback_that_fails_leaves_the_original(caller, serve, broken):
    """A fallback's error never reaches the caller: the original refusal does."""
    upstream = serve(primary=Reply(REFUSAL), second=broken)
    completion = caller.create(caller.wrap(upstream))
    assert completion.choices[0].message.content == REFUSAL
    outcome = demur.outcome_of(completion)
    assert [a.outcome for a in outcome.attempts] == ["refused", "failed"]
    assert outcome.attempts[1].error


def test_the_first_calls_own_error_comes_through(caller, serve):
    """Errors are not refusals: the SDK's exception is raised and no fallback is tried."""
    upstream = serve(primary=Reply("overloaded", status=503), second=Reply(ANSWER))
    with pytest.raises(openai.InternalServerError):
        caller.create(caller.wrap(upstream))
    assert not upstream.calls("second")


@pytest.mark.parametrize(
    "detector",
    [RaisingDetector(ValueError("boom")), LyingDetector(0.7), LyingDetector(None)],
    ids=["raising", "not a verdict", "none"],
)
def test_a_broken_detector_never_costs_the_response(caller, serve, detector):
    """Whatever the detector does, the first response is returned, marked as not judged."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    completion = caller.create(caller.wrap(upstream, detector=detector))
    assert completion.choices[0].message.content == REFUSAL
    assert demur.outcome_of(completion).verdict.degraded


def test_a_hanging_detector_costs_bounded_time(caller, serve):
    """A detector that hangs is left behind within the policy's seconds, and about then."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    policy = {**retrying(), "detector": {"seconds": 0.2}}
    detector = HangingDetector()
    completion = caller.create(caller.wrap(upstream, policy=policy, detector=detector))
    detector.release()
    assert completion.choices[0].message.content == REFUSAL
    assert 0.1 < demur.outcome_of(completion).detection_seconds < 2


def test_a_patch_changes_a_copy_of_the_original_request(caller, serve):
    """A fallback given as a patch changes its fields, beats ``extra_body``, keeps the rest."""
    upstream = serve(primary=Reply(REFUSAL), other=Reply(REFUSAL), third=Reply(ANSWER))
    fallbacks = [{"model": "other", "top_p": 0.5}, {"model": "third", "temperature": 0.2}]
    client = caller.wrap(upstream, fallbacks=fallbacks)
    extra = {"temperature": 1.0, "vendor": True}
    caller.create(client, extra_body=extra, extra_headers={"Idempotency-Key": "mine"})
    first, second, third = (dict(r.body) for r in upstream.requests)
    assert first["temperature"] == 1.0
    assert second == {**first, "model": "other", "top_p": 0.5}
    assert third == {**first, "model": "third", "temperature": 0.2}


def test_the_model_in_extra_body_is_the_requested_one(caller, serve):
    """``extra_body`` beats the body, for demur as for the SDK, and fallbacks replace it there."""
    upstream = serve(real=Reply(REFUSAL), second=Reply(ANSWER))
    completion = caller.create(caller.wrap(upstream), model="ignored", extra_body={"model": "real"})
    assert completion.choices[0].message.content == ANSWER
    assert demur.outcome_of(completion).requested_model == "real"


def test_no_credential_travels_to_another_host(caller, serve):
    """A target elsewhere gets its own client's key and none of the first one's headers."""
    here, elsewhere = serve(primary=Reply(REFUSAL)), serve(second=Reply(ANSWER))
    other = caller.client(elsewhere, default_headers={"x-other": "1"})
    client = caller.wrap(here, targets={"second": other})
    headers = {"Authorization": "Bearer sk-secret", "OpenAI-Organization": "org", "x-mine": "1"}
    completion = caller.create(client, extra_headers=headers)
    assert completion.choices[0].message.content == ANSWER
    assert here.requests[0].headers["authorization"] == "Bearer sk-secret"
    sent = elsewhere.requests[0].headers
    assert "sk-secret" not in str(sent)
    assert "openai-organization" not in sent
    assert "x-mine" not in sent
    assert sent["x-other"] == "1"


def test_a_policys_target_is_called_at_its_own_address(caller, serve, monkeypatch):
    """``targets`` with ``base_url`` and ``api_key_env`` make a client with that key."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local")
    here, elsewhere = serve(primary=Reply(REFUSAL)), serve(**{"llama-3": Reply(ANSWER)})
    policy = retrying(fallbacks=["local"])
    policy["targets"] = {
        "local": {
            "model": "llama-3",
            "base_url": elsewhere.base_url,
            "api_key_env": "LOCAL_KEY",
        }
    }
    completion = caller.create(caller.wrap(here, policy=policy))
    assert completion.choices[0].message.content == ANSWER
    assert elsewhere.requests[0].headers["authorization"] == "Bearer sk-local"
    monkeypatch.delenv("LOCAL_KEY")
    with pytest.raises(demur.PolicyError, match="LOCAL_KEY"):
        caller.wrap(here, policy=policy)


def test_of_several_choices_one_that_delivers_is_enough(caller, serve):
    """With n > 1 each choice is judged; only if all refuse is the fallback asked."""
    upstream = serve(mixed=Reply((REFUSAL, ANSWER)), none=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    assert caller.create(client, "mixed", n=2).model == "mixed"
    assert caller.create(client, "none", n=3).model == "second"


def test_tool_calls_and_unreadable_bodies_pass(caller, serve):
    """A tool call is no refusal whatever its text; no choices and no content are not judged."""
    calls = Reply(REFUSAL, tool_calls=(ToolCall("look", '{"at": "it"}'),))
    upstream = serve(
        primary=calls,
        empty=Reply(body=b'{"id": "x", "object": "chat.completion", "choices": []}'),
        odd=Reply(body=b'{"choices": "none of your business"}'),
        second=Reply(ANSWER),
    )
    client = caller.wrap(upstream)
    assert caller.create(client).choices[0].message.tool_calls[0].function.name == "look"
    assert caller.create(client, "empty").choices == []
    assert caller.create(client, "odd").choices == "none of your business"
    assert not upstream.calls("second")


def test_a_megabyte_with_control_characters_is_judged(caller, serve):
    """Size and bytes cost no response."""
    text = "\x00\x1b[31m\u202e" + "word " * 200_000
    completion = caller.create(caller.wrap(serve(primary=Reply(text))))
    assert completion.choices[0].message.content == text
    assert demur.outcome_of(completion).verdict.label == "normal"


class Recipe(pydantic.BaseModel):
    name: str


def test_parse_gets_the_fallbacks_object(caller, serve):
    """``.parse()`` is judged before it parses: a plain-text refusal is replaced, not raised on."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply('{"name": "soup"}'))
    client = caller.wrap(upstream)
    completion = caller.wait(
        client.chat.completions.parse(model="primary", messages=MESSAGES, response_format=Recipe)
    )
    assert completion.choices[0].message.parsed == Recipe(name="soup")
    assert demur.outcome_of(completion).ending == "fell_back"


def test_parse_raises_as_without_demur_when_all_refuse(caller, serve):
    """The original refusal meets the parser as it would have: the same validation error."""
    client = caller.wrap(serve(primary=Reply(REFUSAL), second=Reply(REFUSAL)))
    with pytest.raises(pydantic.ValidationError):
        caller.wait(
            client.chat.completions.parse(
                model="primary", messages=MESSAGES, response_format=Recipe
            )
        )


@pytest.mark.parametrize("second", [Reply(ANSWER), Reply('{"na', finish_reason="length")])
def test_a_fallback_that_cannot_be_parsed_has_failed(caller, serve, second):
    """The caller gets the refusal that the SDK alone would have returned, and no parser's error."""
    client = caller.wrap(serve(primary=Reply(refusal=REFUSAL), second=second))
    completion = caller.wait(
        client.chat.completions.parse(model="primary", messages=MESSAGES, response_format=Recipe)
    )
    assert completion.choices[0].message.refusal == REFUSAL
    attempts = demur.outcome_of(completion).attempts
    assert [attempt.outcome for attempt in attempts] == ["refused", "failed"]
    assert attempts[1].usage is not None


def test_events_behind_a_whole_call_are_not_read_ahead(caller, serve):
    """A stream asked for past the SDK comes event by event, as without demur."""
    upstream = serve(primary=Reply(ANSWER, delay=0.05))
    opened = caller.wrap(upstream).chat.completions.with_streaming_response.create(
        model="primary", messages=MESSAGES, extra_body={"stream": True}
    )

    async def first_chunk():
        async with opened as response:
            parts = response.iter_bytes()
            assert await anext(parts)
            return upstream.requests[0].finished.is_set()

    if caller.kind == "async":
        assert not caller.loop.run_until_complete(first_chunk())
        return
    with opened as response:
        parts = response.iter_bytes()
        assert next(parts)
        assert not upstream.requests[0].finished.is_set()


def test_raw_responses_are_the_served_ones(caller, serve):
    """``with_raw_response`` gives the fallback's headers and body, and carries the outcome."""
    upstream = serve(
        primary=Reply(REFUSAL, headers={"x-from": "primary"}),
        second=Reply(ANSWER, headers={"x-from": "second"}),
    )
    create = caller.wrap(upstream).chat.completions.with_raw_response.create
    raw = caller.wait(create(model="primary", messages=MESSAGES))
    assert raw.headers["x-from"] == "second"
    assert raw.parse().choices[0].message.content == ANSWER
    assert demur.outcome_of(raw).ending == "fell_back"
    assert demur.outcome_of(raw.http_response).ending == "fell_back"


def test_streaming_responses_without_sse_replay_the_body(caller, serve):
    """``with_streaming_response`` of a whole completion gives the served body's bytes."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    create = caller.wrap(upstream).chat.completions.with_streaming_response.create
    if caller.kind == "sync":
        with create(model="primary", messages=MESSAGES) as response:
            body = b"".join(response.iter_bytes())
            outcome = demur.outcome_of(response)
    else:

        async def read():
            async with create(model="primary", messages=MESSAGES) as response:
                body = b"".join([part async for part in response.iter_bytes()])
                return body, demur.outcome_of(response)

        body, outcome = caller.wait(read())
    assert json.loads(body)["choices"][0]["message"]["content"] == ANSWER
    assert outcome.ending == "fell_back"


def test_compressed_bodies_are_judged_and_left_as_they_are(caller, serve):
    """A gzip body is judged on a decoded copy; raw bytes reach whoever reads them."""
    payload = {
        "id": "x",
        "object": "chat.completion",
        "model": "primary",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": REFUSAL}}],
    }
    packed = gzip.compress(json.dumps(payload).encode())
    upstream = serve(
        primary=Reply(body=packed, headers={"content-encoding": "gzip"}), second=Reply(ANSWER)
    )
    assert caller.create(caller.wrap(upstream)).choices[0].message.content == ANSWER


def test_responses_api_is_judged_too(caller, serve):
    """``/responses`` goes through the same flow in its own shape."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    response = caller.wait(client.responses.create(model="primary", input="How?"))
    assert response.output_text == ANSWER
    assert demur.outcome_of(response).api == "responses"


def test_other_paths_and_unmatched_models_pass_untouched(caller, serve):
    """Only chat and Responses requests that a rule matches are judged."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    policy = retrying()
    policy["rules"][0]["match"] = {"model": "other-*"}
    client = caller.wrap(upstream, policy=policy)
    completion = caller.create(client)
    assert completion.choices[0].message.content == REFUSAL
    assert demur.outcome_of(completion) is None
    models = caller.wait(client.models.list())
    assert {m.id for m in models.data} == {"primary", "second"}


def test_the_retry_limit_bounds_a_slow_fallback(caller, serve):
    """``retry.seconds`` cuts off a fallback that does not answer; the original is served."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER, first_delay=5))
    completion = caller.create(caller.wrap(upstream, policy=retrying(seconds=0.3)))
    assert completion.choices[0].message.content == REFUSAL
    assert demur.outcome_of(completion).added_seconds < 3


def test_shadow_mode_changes_nothing_and_says_what_it_would_do(caller, serve):
    """In shadow mode the refusal is served, and recorded as a fallback that would have been."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream, policy={**retrying(), "mode": "shadow"})
    completion = caller.create(client)
    assert completion.choices[0].message.content == REFUSAL
    assert not upstream.calls("second")
    outcome = demur.outcome_of(completion)
    assert (outcome.ending, outcome.would, outcome.shadow) == ("accepted", "fell_back", True)
    assert outcome.verdict.label == "refusal"


def test_the_phrase_detector_is_what_these_tests_think_it_is():
    """The refusals here are refusals to the detector used, and the answer is not."""
    judge = PhraseDetector().classify
    assert judge(demur.Evidence(text=REFUSAL)).label == "refusal"
    assert judge(demur.Evidence(text=ANSWER)).label == "normal"
