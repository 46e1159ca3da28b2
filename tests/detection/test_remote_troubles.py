"""Servers that drip, drown or send elsewhere, and keys that are none."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from demur.detection.building import build_detector
from demur.detection.cascade import Cascade
from demur.errors import DetectorError, PolicyError
from demur.policy.schema import DetectorSettings
from demur.vocabulary import Evidence

REFUSAL = "I'm sorry, but I can't do that."


def tei(body: Any) -> Any:
    found = [0.875 if "can't" in text else 0.125 for (text,) in body["inputs"]]
    return [
        [{"label": "REJECTION", "score": p}, {"label": "NORMAL", "score": 1 - p}] for p in found
    ]


def detector(url: str, *, seconds: float = 5.0, **remote: Any) -> Cascade:
    values = {"protocol": "tei", "url": url, **remote}
    settings = {"stages": ["remote"], "seconds": seconds, "remote": values}
    return build_detector(DetectorSettings.model_validate(settings))


def label(found: Cascade, text: str) -> str:
    """The label, or what was wrong."""
    try:
        return found.classify(Evidence(text)).label
    except DetectorError as error:
        return str(error)


@pytest.mark.parametrize("key", ["secret\n", "secr\u20act", " secret\r\nx: y"])
def test_a_key_that_is_no_header_is_told_without_it(
    serve: Any, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when it was read from a file with its line break: at the start, not at each text."""
    monkeypatch.setenv("DEMUR_KEY", key)
    server = serve(tei)
    with caplog.at_level(logging.DEBUG), pytest.raises(PolicyError, match="'DEMUR_KEY'") as caught:
        label(detector(server.url, api_key_env="DEMUR_KEY"), "text")
    assert "secr" not in str(caught.value)
    assert "secr" not in caplog.text
    assert not server.requests


def test_a_redirection_is_not_followed(serve: Any) -> None:
    """The texts go to the server that the policy names, and nowhere else."""
    server = serve(tei)
    server.status = 307
    assert "status 307" in label(detector(server.url), "text")
