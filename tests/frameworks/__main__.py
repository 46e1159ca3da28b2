"""Run each installed framework with plain and with wrapped clients, and print where they differ."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import re
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .comparing import Result, compared

_HERE = Path(__file__).parent
_PACKAGE = re.compile(r'^PACKAGE = "(.+)"$', re.MULTILINE)
_SECONDS = 400
_SHOWN = 4
_LINE = "{:18} {:48} {:>5} {:>5} {:>5} {:>9}  {}"


def main() -> int:
    packages = _packages()
    names = list(packages)
    parser = argparse.ArgumentParser(prog="python -m tests.frameworks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    wanted = parser.parse_args().names or names
    if set(wanted) - set(names):
        parser.error(f"name some of {', '.join(names)}")
    # What some of these send home as they are imported or called.
    os.environ.update(DO_NOT_TRACK="1", LITELLM_LOCAL_MODEL_COST_MAP="True")
    print(f"openai {version('openai')}, Python {platform.python_version()}, {date.today()}")
    print(_LINE.format("name", "package", "cases", "same", "known", "different", "first"))
    missing = [name for name in wanted if not _is_installed(packages[name])]
    results = [_in_its_own_process(name) for name in wanted if name not in missing]
    print(f"not installed: {', '.join(missing) or 'none'}")
    for result in results:
        _explain(result)
    return 1 if any(result.different for result in results) else 0


def _packages() -> dict[str, str]:
    """The package each module is for. It is read: without its package none can be imported."""
    found = {path.stem: _PACKAGE.search(path.read_text()) for path in sorted(_HERE.glob("*.py"))}
    return {name: package[1] for name, package in found.items() if package}


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _in_its_own_process(name: str) -> Result:
    """What a module's cases came to. What it patches, no other module is to see."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            result = pool.apply_async(compared, (name,)).get(_SECONDS)
        except multiprocessing.TimeoutError:
            result = Result(name, different={"all": [f"had not ended after {_SECONDS} s"]})
        except Exception as error:  # noqa: BLE001 - a framework may raise anything
            result = Result(name, different={"all": [f"{type(error).__name__}: {error}"]})
    counts = (result.cases, result.same, result.meant, len(result.different))
    package = f"{result.package} {result.version}"
    print(_LINE.format(name, package, *counts, result.first), flush=True)
    return result


def _explain(result: Result) -> None:
    for reason, titles in result.known.items():
        print(f"\n{result.package}: known in {len(titles)} ({'; '.join(titles)}): {reason}")
    for title, found in result.different.items():
        print(f"\n{result.package}: {title}")
        for line in found[:_SHOWN]:
            print(f"  {line[:400]}")


if __name__ == "__main__":
    sys.exit(main())
