"""Which requests are judged: all that ask for a chat completion or a response, however said."""

from __future__ import annotations

import pytest
from openai_stage import ANSWER, REFUSAL, retrying

import demur
from demur.testing import Reply


def test_responses_of_the_beta_are_judged(caller, serve):
    """Its path is that of ``/responses`` with a query."""
    upstream = serve(primary=Reply(REFUSAL), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    if not hasattr(client.beta, "responses"):
        pytest.skip("this SDK has no beta.responses")
    response = caller.wait(client.beta.responses.create(model="primary", input="How?"))
    assert response.output[0].content[0].text == ANSWER
    assert demur.outcome_of(response).ending == "fell_back"
    assert {request.path.partition("/v1")[2] for request in upstream.requests} == {
        "/responses?beta=true"
    }


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_whose_model_the_prompt_chooses_is_judged(caller, serve, stream):
    """A request without a model goes by the name of none; a fallback gets a model all the same."""
    upstream = serve(**{"None": Reply(REFUSAL), "second": Reply(ANSWER)})
    client = caller.wrap(upstream)
    asked = client.responses.create(prompt={"id": "pmpt_1"}, input="How?", stream=stream)
    response = caller.wait(asked)
    said = caller.items(response)[-1].response if stream else response
    assert said.output_text == ANSWER
    outcome = demur.outcome_of(response)
    assert (outcome.requested_model, outcome.ending) == ("", "fell_back")
    assert [request.body.get("model") for request in upstream.requests] == [None, "second"]


def test_rules_match_no_model_by_the_empty_name(caller, serve):
    """A rule for some models does not hold for a request that names none."""
    policy = retrying()
    policy["rules"][0]["match"] = {"model": "prim*"}
    client = caller.wrap(serve(**{"None": Reply(REFUSAL)}), policy=policy)
    response = caller.wait(client.responses.create(prompt={"id": "pmpt_1"}, input="How?"))
    assert demur.outcome_of(response) is None
