"""Streams that are cut after a request with pictures, sounds or files in it."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_stage import Proxy
from test_litellm_operators import CHAT, Answer

from demur.testing import Upstream

BYTES = "UklGRi" * 20_000
SAYS = "What is the capital of Portugal?"
SOUND = {"type": "input_audio", "input_audio": {"data": BYTES, "format": "wav"}}
PICTURE = {"type": "input_image", "image_url": f"data:image/png;base64,{BYTES}"}
PAGES = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": BYTES},
}


@pytest.mark.parametrize(
    ("path", "field", "part", "text"),
    [
        (CHAT, "messages", SOUND, "text"),
        ("/v1/messages", "messages", PAGES, "text"),
        ("/v1/responses", "input", PICTURE, "input_text"),
    ],
    ids=["sound", "pages", "picture"],
)
def test_what_is_no_text_is_not_counted_as_text(
    proxy: Proxy, upstream: Upstream, path: str, field: str, part: dict[str, Any], text: str
) -> None:
    """The refused attempt is logged all the same, with tokens for what was said."""
    asked = [{"role": "user", "content": [{"type": text, "text": SAYS}, part]}]
    body = {"model": "slow", "stream": True, "max_tokens": 64, field: asked}
    before = proxy.count_records()
    answer = Answer(upstream, proxy, path, body)
    assert (answer.status, answer.called) == (200, ["m-refusing-slowly", "m-second"])
    rows = proxy.records_after(before, 2)
    (refused,) = [row for row in rows if row["model_group"] == "slow"]
    assert "demur:refusal" in refused["request_tags"]
    assert 10 < refused["total_tokens"] < 200
