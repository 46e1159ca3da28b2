"""Two proxies before one upstream that serves the corpus: with demur, and without it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from corpus import Shape
from proxy_stage import Proxy, skip_without_proxy

from demur.testing import Reply, Upstream


class Steady(Proxy):
    """A proxy that neither retries nor cools down, so that errors come back as they are."""

    guarded = True

    def _start(self) -> subprocess.Popen[bytes]:
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["router_settings"] = {"num_retries": 0, "disable_cooldowns": True}
        if not self.guarded:
            del config["guardrails"]
        path.write_text(yaml.safe_dump(config))
        return super()._start()


class Unguarded(Steady):
    guarded = False


@contextmanager
def side_by_side(
    folder: Path, shapes: Sequence[Shape], policy: Mapping[str, Any], *, delay: float = 0.0
) -> Iterator[tuple[Proxy, Proxy]]:
    """Both, up; a model group for every shape. ``delay`` in seconds between its chunks."""
    skip_without_proxy()
    script = {
        s.name: Reply(body=s.body, status=s.status, headers=s.headers, delay=delay) for s in shapes
    }
    groups = {shape.name: shape.name for shape in shapes}
    with Upstream(script) as upstream:
        common: dict[str, Any] = {"base_url": upstream.base_url, "models": groups, "policy": policy}
        with (
            Steady(folder / "with", **common) as one,
            Unguarded(folder / "without", **common) as two,
        ):
            yield one.wait_until_up(), two.wait_until_up()


def asked(shape: Shape) -> tuple[str, bytes]:
    """The path and the body of the request that a shape answers."""
    said: dict[str, Any] = (
        {"input": "How?"}
        if shape.api == "responses"
        else {"messages": [{"role": "user", "content": "How?"}]}
    )
    path = "responses" if shape.api == "responses" else "chat/completions"
    body = {"model": shape.name, "stream": shape.stream, **said, **shape.request}
    return f"/v1/{path}", json.dumps(body).encode()
