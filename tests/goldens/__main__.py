"""Writes the goldens of the model in the wheel: ``python -m tests.goldens``."""

from __future__ import annotations

import json

from demur.detection.embedded import MODEL
from demur.training.cases import hard_cases

from .golden import FOLDER, path_of, verdicts


def main() -> None:
    path = path_of(MODEL)
    said = {case.id: verdicts(case.response) for case in hard_cases()}
    others = sorted(FOLDER.glob("*.json"))
    before = path if path.is_file() else (others[-1] if others else None)
    if before is not None:
        known = json.loads(before.read_text(encoding="utf-8"))
        both = [name for name in said if name in known]
        changed = [name for name in both if said[name]["label"] != known[name]["label"]]
        print(f"against {before.name}: {len(changed)} of {len(both)} labels differ")
    path.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: {len(said)} cases")


if __name__ == "__main__":
    main()
