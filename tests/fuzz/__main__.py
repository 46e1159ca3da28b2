"""Run one target under atheris."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ModuleNotFoundError:
    raise SystemExit("fuzzing needs atheris: pip install atheris (CPython up to 3.13)") from None

with atheris.instrument_imports(include=["demur", "yaml"]):
    from .targets import TARGETS

SEEDS = Path(__file__).parent / "seeds"


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"name one of {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    # libFuzzer writes what it finds to the first folder, which the seeds are not to be.
    found = [] if any(not a.startswith("-") for a in sys.argv[1:]) else [tempfile.mkdtemp()]
    atheris.Setup([*sys.argv, *found, str(SEEDS / name)], TARGETS[name])
    atheris.Fuzz()


main()
