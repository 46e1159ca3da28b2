"""Run each installed framework with plain and with wrapped clients, and print where they differ.

    python3.11 -m venv VENV
    VENV/bin/pip install -r tests/frameworks/requirements.txt -e .
    VENV/bin/python -m tests.frameworks [NAME ...]

`requirements-next.txt` is the same for openai 3, without those that do not install beside it. A
case runs twice against a server on the loopback interface, with a plain client and with a wrapped
one: where the model answers, and where it refuses and a fallback answers. For the plain client the
model that would have refused answers under the fallback's name, since that is what demur makes of
it. Results, warnings, logs, what an instrumentation exported and what the server was sent must be
the same. Exit status 0 if they are, but for the differences that a module declares with a reason.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .comparing import Result, compared

_HERE = Path(__file__).parent
_NOT_ONES = {"__init__", "__main__", "calls", "comparing", "obedient", "schemas", "spans"}
_SECONDS = 240
_SHOWN = 4


def main() -> int:
    names = sorted(path.stem for path in _HERE.glob("*.py") if path.stem not in _NOT_ONES)
    parser = argparse.ArgumentParser(prog="python -m tests.frameworks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    wanted = parser.parse_args().names or names
    if set(wanted) - set(names):
        parser.error(f"name some of {', '.join(names)}")
    # Nothing here may reach for the network, and LiteLLM does as it is imported.
    os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", DO_NOT_TRACK="1")
    print(
        f"openai {version('openai')}, Python {platform.python_version()}, {date.today()}\n"
        f"{'package':40} {'version':10} {'cases':>5} {'same':>5} {'known':>5} {'different':>9}"
    )
    missing, results = [], []
    for name in wanted:
        result = _in_its_own_process(name)
        if result is None:
            missing.append(name)
            continue
        results.append(result)
        counts = (result.cases, result.same, result.meant)
        print(
            f"{result.package:40} {result.version:10} {counts[0]:5} {counts[1]:5} {counts[2]:5} "
            f"{len(result.different):9}",
            flush=True,
        )
    print(f"not installed: {', '.join(missing) or 'none'}")
    for result in results:
        _explain(result)
    return 1 if any(result.different for result in results) else 0


def _in_its_own_process(name: str) -> Result | None:
    """What a module's cases came to. What it patches, no other module is to see."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply_async(compared, (name,)).get(_SECONDS)
        except PackageNotFoundError:
            return None
        except multiprocessing.TimeoutError:
            return Result(name, different={"all": [f"had not ended after {_SECONDS} s"]})
        except Exception as error:
            return Result(name, different={"all": [f"{type(error).__name__}: {error}"]})


def _explain(result: Result) -> None:
    for reason, titles in result.known.items():
        print(f"\n{result.package}: known in {len(titles)} ({'; '.join(titles)}): {reason}")
    for title, found in result.different.items():
        print(f"\n{result.package}: {title}")
        for line in found[:_SHOWN]:
            print(f"  {line[:400]}")


if __name__ == "__main__":
    sys.exit(main())
