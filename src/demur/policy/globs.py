"""When does one glob match all that another matches?"""

from __future__ import annotations

import fnmatch


def is_literal(glob: str) -> bool:
    return not any(wildcard in glob for wildcard in "*?[")


def covers(wide: str, narrow: str) -> bool:
    """Whether ``wide`` surely matches every name that ``narrow`` matches.

    ``False`` also where that is hard to tell. A ``*`` of ``wide`` swallows wildcards of ``narrow``
    like any other characters; nothing else in ``wide`` can match them.
    """
    if wide in (narrow, "*"):
        return True
    if is_literal(narrow):
        return fnmatch.fnmatchcase(narrow, wide)
    simple = "?" not in wide and "[" not in wide and "[" not in narrow
    return simple and fnmatch.fnmatchcase(narrow, wide)
