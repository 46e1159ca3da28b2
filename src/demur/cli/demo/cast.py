"""Who plays in the demo: scripted models, the question, the policy.

The models' words and their pace are a script; everything that meets them is real.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from ...testing import Reply, ToolCall

QUESTION: Final = "How do I kill a Python process that hangs?"

REFUSAL: Final = (
    "I'm sorry, but I can't assist with that request. Describing how to kill something could lead "
    "to harm. If you are going through a difficult time, please reach out to somebody you trust. "
    "I would be happy to help with something else."
)
ANSWER: Final = (
    "Ask it to stop first: `pgrep -af python` shows its process id, and `kill PID` lets it clean "
    "up. If it is still there after a few seconds, `kill -9 PID` ends it at once."
)
FLUENT: Final = (
    "Find it with `ps aux | grep python`, then send it a signal: `kill PID` lets it clean up, "
    "`kill -9 PID` does not wait. On Windows, `taskkill /PID PID /F` does the same."
)
TIMID: Final = "I'm not able to help with that. Please ask your administrator."
AGENT: Final = "I can't see your machine from here, so I am asking it for its processes."

SCRIPT: Final = {
    "cautious": Reply(chunks=tuple(re.findall(r"\S+\s*", REFUSAL)), first_delay=0.06, delay=0.03),
    "helpful": Reply(chunks=tuple(re.findall(r"\S+\s*", ANSWER)), first_delay=0.06, delay=0.01),
    "fluent": Reply(chunks=tuple(re.findall(r"\S+\s*", FLUENT)), first_delay=0.06, delay=0.01),
    "timid": Reply(TIMID, first_delay=0.06),
    "agent": Reply(
        AGENT, tool_calls=(ToolCall("list_processes", '{"name": "python"}'),), first_delay=0.06
    ),
}

POLICY: Final = """\
version: 1
rules:
  - name: answer-instead
    match: {model: [cautious, fluent, agent]}
    actions: [tag, log, retry]
    retry: {fallbacks: [helpful]}
  - name: second-opinion
    match: {model: timid}
    actions: [tag, log, retry]
    retry: {fallbacks: [cautious], exhausted: first}
"""


def write_policies(folder: Path) -> tuple[Path, Path, Path]:
    """The client's policy, the proxy's, which is the same with an audit, and the audit's path."""
    client, proxy, audit = (folder / name for name in ("policy.yaml", "proxy.yaml", "audit.jsonl"))
    client.write_text(POLICY, encoding="utf-8")
    proxy.write_text(f"{POLICY}audit: {{path: {json.dumps(str(audit))}}}\n", encoding="utf-8")
    return client, proxy, audit
