"""DSPy: its LM takes no client, but a subclass of its base may call any.

3.4 calls that deprecated; what is to replace it speaks DSPy's own protocol and no client's.
"""

from __future__ import annotations

from typing import Any

import dspy

PACKAGE = "dspy"


class Model(dspy.BaseLM):
    def __init__(self, client: Any) -> None:
        super().__init__("primary", cache=False)
        self.client = client

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        asked = messages or [{"role": "user", "content": prompt}]
        options = {**self.kwargs, **options, "model": self.model, "messages": asked}
        options.pop("rollout_id", None)
        return self.client.chat.completions.create(**options)

    async def aforward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        return await self.forward(prompt, messages, **options)


def call(client: Any) -> Any:
    return Model(client)("How?")


def predict(client: Any) -> Any:
    with dspy.context(lm=Model(client)):
        return dspy.Predict("question -> answer")(question="How?").toDict()


def predict_json(client: Any) -> Any:
    with dspy.context(lm=Model(client), adapter=dspy.JSONAdapter()):
        return dspy.Predict("question -> name: str, people: int")(question="How?").toDict()


async def call_async(client: Any) -> Any:
    return await Model(client).acall("How?")


async def predict_async(client: Any) -> Any:
    with dspy.context(lm=Model(client)):
        return (await dspy.Predict("question -> answer").acall(question="How?")).toDict()


CASES = [call, predict, predict_json, call_async, predict_async]
