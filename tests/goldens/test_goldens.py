"""The goldens of the model in the wheel, replayed through every way into it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import demur
from demur.cli import main
from demur.detection import embedded
from demur.detection.embedded import MODEL, EmbeddedDetector
from demur.testing import Reply, Upstream
from demur.training.cases import hard_cases
from demur.vocabulary import Evidence

from .golden import Golden, goldens, path_of, verdicts

GOLDENS = goldens()
SOME = GOLDENS[::6]
"""For the ways that take a request over the network."""
MODELS = Path(embedded.__file__).parent / "models"
POLICY: dict[str, Any] = {"version": 1, "rules": [{"name": "all", "actions": ["tag"]}]}


def test_the_model_is_accounted_for() -> None:
    """One constant names folder, goldens, card and the changelog's entry."""
    assert EmbeddedDetector.load().version == MODEL
    assert {golden.id for golden in GOLDENS} == {case.id for case in hard_cases()}, (
        f"{path_of(MODEL).name}: run python -m tests.goldens"
    )
    assert (MODELS / MODEL / "README.md").read_text(encoding="utf-8").startswith(f"# {MODEL}\n")
    assert f"\n## {MODEL}\n" in (MODELS / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.id)
def test_the_detector(golden: Golden) -> None:
    """Text in, the same verdict out, whole and begun."""
    said = verdicts(golden.text)
    assert golden.agrees(said["label"], said["score"])
    differ = [a for a, b in zip(said["starts"], golden.starts, strict=True) if a != b]
    # A beginning's score is not written down, so one may lie at a threshold.
    assert len(differ) <= 1


async def test_the_detector_awaited() -> None:
    """The same for asyncio."""
    detector = EmbeddedDetector.load()
    for golden in GOLDENS:
        verdict = await detector.aclassify(Evidence(text=golden.text))
        assert golden.agrees(verdict.label, verdict.score), golden.id


def test_the_command(tmp_path: Path) -> None:
    """``demur classify`` on a file of them."""
    path = tmp_path / "goldens.jsonl"
    lines = [json.dumps({"response": golden.text}) + "\n" for golden in GOLDENS]
    path.write_text("".join(lines), encoding="utf-8")
    found = CliRunner().invoke(main, ["classify", str(path), "--json"])
    assert found.exit_code == 0
    for golden, line in zip(GOLDENS, found.stdout.splitlines(), strict=True):
        said = json.loads(line)
        assert said["stage"] == "embedded"
        assert golden.agrees(said["label"], said["score"]), golden.id


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A model that answers a case's name with its text."""
    texts = {golden.id: golden.text for golden in GOLDENS}

    def reply(body: Mapping[str, Any]) -> Reply:
        return Reply(texts[body["messages"][0]["content"]])

    with Upstream({"golden": reply}) as server:
        yield server


def told(answer: Any) -> tuple[str, float]:
    outcome = demur.outcome_of(answer)
    assert outcome is not None
    verdict = outcome.attempts[-1].verdict
    assert verdict is not None
    return verdict.label, verdict.score


def asking(golden: Golden, model: str = "golden") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": golden.id}]}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_client(upstream: Upstream, stream: bool) -> None:
    """A wrapped OpenAI client; of a stream the verdict on the whole counts."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=upstream.base_url, api_key="k") as client:
        wrapped = demur.wrap(client, policy=POLICY)
        for golden in SOME:
            answer = wrapped.chat.completions.create(**asking(golden), stream=stream)
            text = _text(list(answer)) if stream else answer.choices[0].message.content
            assert text == golden.text
            assert golden.agrees(*told(answer)), golden.id


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_the_awaited_client(upstream: Upstream, stream: bool) -> None:
    """The same for asyncio."""
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key="k") as client:
        wrapped = demur.wrap(client, policy=POLICY)
        for golden in SOME:
            answer = await wrapped.chat.completions.create(**asking(golden), stream=stream)
            items = [item async for item in answer] if stream else []
            assert (_text(items) if stream else answer.choices[0].message.content) == golden.text
            assert golden.agrees(*told(answer)), golden.id


@pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly`:UserWarning")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_litellm(upstream: Upstream, stream: bool) -> None:
    """LiteLLM's SDK, through the same decisions as its proxy."""
    pytest.importorskip("litellm")
    from demur.adapters.litellm import Models

    models = Models(POLICY)

    async def replay() -> None:
        for golden in SOME:
            request = asking(golden, "openai/golden")
            answer = await models.acompletion(
                request["model"],
                request["messages"],
                stream=stream,
                api_base=upstream.base_url,
                api_key="k",
            )
            if stream:
                assert _text([item async for item in answer]) == golden.text
            assert golden.agrees(*told(answer)), golden.id

    asyncio.run(replay())


def _text(chunks: list[Any]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
