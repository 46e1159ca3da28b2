"""How long demur replay and demur report take for a large log.

python tests/benchmarks/replay.py [RECORDS]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from log_stage import write_log

RETRY = {"fallbacks": ["second", "local-llama"]}
POLICY = {
    "version": 1,
    "detector": {"thresholds": {"refusal": 0.6}},
    "rules": [{"name": "all", "actions": ["tag", "log", "retry"], "retry": RETRY}],
}


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    demur = str(Path(sys.executable).parent / "demur")
    with tempfile.TemporaryDirectory() as folder:
        log = str(write_log(Path(folder, "audit.jsonl"), records))
        Path(folder, "new.yaml").write_text(json.dumps(POLICY))
        for command in (
            ["replay", log, "--policy", f"{folder}/new.yaml"],
            ["report", log, "--html", f"{folder}/report.html"],
        ):
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            start = time.perf_counter()
            subprocess.run([demur, *command], check=True, stdout=subprocess.DEVNULL)
            wall = time.perf_counter() - start
            cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
            print(f"{command[0]}, {records:,} records: {wall:.1f} s, {cpu:.1f} s of processor time")


if __name__ == "__main__":
    main()
