"""What cannot be read in a stream: where it stands decides, not how the bytes were cut."""

from __future__ import annotations

import openai
import pytest
from openai_stage import ANSWER, REFUSAL, piece, sse

import demur
from demur.testing import Reply

ERROR = '{"error": {"message": "overloaded", "type": "server_error"}}'
BROKEN = sse(ERROR, piece(REFUSAL), "[DONE]")


@pytest.mark.parametrize("body", [BROKEN, (b"".join(BROKEN),)], ids=["apart", "at once"])
def test_an_error_event_is_raised_whatever_follows_it(caller, serve, body):
    """A refusal after the error does not count, be it in the same bytes."""
    upstream = serve(primary=Reply(body=body), second=Reply(ANSWER))
    stream = caller.create(caller.wrap(upstream), stream=True)
    with pytest.raises(openai.APIError, match="overloaded"):
        caller.items(stream)
    assert not upstream.calls("second")


@pytest.mark.parametrize("body", [sse(ERROR), sse("{half"), ()], ids=["error", "half", "nothing"])
def test_a_fallback_that_cannot_be_read_has_failed(caller, serve, body):
    """The caller gets the original refusal, not the fallback's error."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(body=body))
    stream = caller.create(caller.wrap(upstream), stream=True)
    assert caller.text(stream) == REFUSAL
    outcome = demur.outcome_of(stream)
    assert outcome.ending == "exhausted"
    assert outcome.attempts[1].error == "UnreadableError"


def test_a_whole_fallback_that_cannot_be_read_has_failed(caller, serve):
    """Read raw, a body that is no JSON raises nothing before the caller parses it."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(body=b"<html>"))
    client = caller.wrap(upstream)
    raw = caller.wait(
        client.chat.completions.with_raw_response.create(model="primary", messages=[])
    )
    assert raw.parse().choices[0].message.content == REFUSAL
