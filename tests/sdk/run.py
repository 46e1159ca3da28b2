"""Run openai-python's own tests with every client wrapped, and list what differs from plain.

    python tests/sdk/run.py PATH_TO_CHECKOUT [PYTEST_ARGUMENT ...]

PATH is an unpacked source distribution or checkout of the installed version of openai; with
openai-agents' the same works. Its source is left out, so the installed package is what is tested.
Exit status 0 if no test that passes plain does anything else wrapped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
Results = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("pytest_args", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if not (given.checkout / "tests").is_dir():
        parser.error(f"{given.checkout} has no folder 'tests'; give a checkout or unpacked sdist")
    wanted = given.pytest_args or ["tests", "--ignore=tests/api_resources"]
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, "checkout")
        shutil.copytree(given.checkout, copy, ignore=shutil.ignore_patterns("src", ".git"))
        plain = run(copy, wanted, "plain")
        wrapped = run(copy, wanted, "wrapped", "-p", "wrapped_clients")
    return report(plain, wrapped)


def run(checkout: Path, wanted: list[str], name: str, *plugin: str) -> Results:
    """The outcome of each test by its name."""
    junit = checkout.parent / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", *wanted, *plugin, f"--junitxml={junit}", "-q"]
    options = [
        "--continue-on-collection-errors",
        "-o",
        "addopts=",
        "-p",
        "no:warnings",
        "--tb=no",
        "--no-header",
    ]
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, *options], cwd=checkout, env=environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    print(f"{name}: " + "; ".join(done.stdout.strip().splitlines()[-2:]), flush=True)
    if not junit.exists():
        raise SystemExit(done.stdout + done.stderr)
    return dict(outcomes(junit))


def outcomes(junit: Path) -> list[tuple[str, str]]:
    found = []
    for case in ElementTree.parse(junit).iter("testcase"):
        wrong = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname')}::{case.get('name')}"
        found.append((name, "+".join(sorted(wrong)) or "passed"))
    return found


def report(plain: Results, wrapped: Results) -> int:
    names = sorted(plain.keys() | wrapped.keys())
    pairs = {name: (plain.get(name, "missing"), wrapped.get(name, "missing")) for name in names}
    differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    for name, (without, within) in differing.items():
        print(f"{name}: {without} plain, {within} wrapped")
    passed = Counter(plain.values())["passed"]
    kept = sum(pair == ("passed", "passed") for pair in pairs.values())
    print(f"{kept} of {passed} tests that pass plain pass wrapped; {len(differing)} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
