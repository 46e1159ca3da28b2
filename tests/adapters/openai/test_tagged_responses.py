"""What carries an outcome is still the caller's to copy, to pickle and to shape."""

from __future__ import annotations

import copy
import pickle

import openai
import pytest
from openai_stage import ANSWER, MESSAGES, REFUSAL, retrying

import demur
from demur.testing import Reply


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_tagged_responses_are_pickled(caller, serve, api):
    """A response goes through pickle as without demur, and takes its outcome along."""
    client = caller.wrap(serve(primary=Reply(REFUSAL), second=Reply(ANSWER)))
    if api == "chat":
        answer = caller.create(client)
    else:
        answer = caller.wait(client.responses.create(model="primary", input="x"))
    again = pickle.loads(pickle.dumps(answer))
    assert again == answer
    assert demur.outcome_of(again) == demur.outcome_of(answer)
    assert demur.outcome_of(answer).ending == "fell_back"


@pytest.mark.parametrize("way", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_demurs_errors_are_pickled(caller, serve, way):
    """Errors cross processes with all that they tell."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(REFUSAL))
    client = caller.wrap(upstream, policy=retrying(exhausted="error"))
    with pytest.raises(demur.RefusedError) as caught:
        caller.create(client)
    again = way(caught.value)
    assert (type(again), str(again)) == (demur.RefusedError, str(caught.value))
    assert again.outcome == caught.value.outcome
    missing = demur.MissingExtraError("httpx", "openai", "wrap")
    assert str(way(missing)) == str(missing)
    assert way(missing).extra == "openai"


def test_a_result_that_takes_no_attributes_is_returned(caller, serve):
    """A parser of the caller's may give anything, a tuple for one; it arrives, untagged."""
    client = caller.wrap(serve(primary=Reply(ANSWER)))
    result = caller.wait(
        client.post(
            "/chat/completions",
            cast_to=openai.types.chat.ChatCompletion,
            body={"model": "primary", "messages": MESSAGES},
            options={"post_parser": lambda completion: (completion, 1)},
        )
    )
    assert result[0].choices[0].message.content == ANSWER


@pytest.mark.parametrize("first", [ANSWER, REFUSAL])
@pytest.mark.parametrize("stream", [False, True])
def test_how_long_a_response_took_can_be_asked(caller, serve, stream, first):
    """``elapsed`` is there once a response is closed, wherever the HTTP library keeps it."""
    upstream = serve(primary=Reply(first), second=Reply(ANSWER))
    completions = caller.wrap(upstream).chat.completions
    raw = caller.wait(
        completions.with_raw_response.create(model="primary", messages=MESSAGES, stream=stream)
    )
    if stream:
        caller.items(raw.parse())
    assert raw.elapsed.total_seconds() > 0
