"""What the cheap detector decides alone: as much as loses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from demur.cli import main
from demur.detection.cascade import Cascade
from demur.training.measuring import Judged
from demur.training.passing import choose
from demur.training.rows import Row
from demur.vocabulary import Evidence, Verdict


def judged(scores: list[float], labels: list[int], threshold: float = 0.5) -> Judged:
    found = np.array(scores)
    rows = [Row(id=str(i), response="", label=label) for i, label in enumerate(labels)]
    return Judged("m", rows, found, found >= threshold, np.array(labels), found, threshold)


def cloud(seed: int, noise: float, count: int = 2000) -> tuple[list[float], list[int]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    logits = (2 * labels - 1) * 3 + random.normal(0, noise, count)
    return (1 / (1 + np.exp(-logits))).tolist(), labels.tolist()


def test_what_the_first_is_wrong_about_is_passed_on() -> None:
    """A good second detector is asked about the unclear middle, and quality is kept."""
    scores, labels = cloud(0, 2.0)
    better = [0.99 if label else 0.01 for label in labels]
    found = choose(judged(scores, labels), judged(better, labels), seed=0)
    assert 0.05 < found.passed < 0.9
    assert found.alone.f1 == 1.0
    assert found.cascade.f1 > 0.99


def test_a_first_detector_that_is_right_decides_alone() -> None:
    """Nothing is passed on where the second would do worse."""
    labels = [0, 1] * 500
    worse = [0.9 if n % 10 == 0 else (0.99 if label else 0.01) for n, label in enumerate(labels)]
    found = choose(
        judged([0.9 if x else 0.1 for x in labels], labels), judged(worse, labels), seed=0
    )
    assert found.passed == 0.0
    assert found.kept


@given(st.integers(0, 50), st.floats(0.5, 4.0), st.floats(0.5, 4.0))
def test_nothing_is_lost_where_it_was_chosen(seed: int, noise: float, other: float) -> None:
    """On the rows it was chosen on recall is no lower and false alarms are no more."""
    scores, labels = cloud(seed, noise, 200)
    second, _ = cloud(seed, other, 200)
    first_all, second_all = judged(scores, labels), judged(second, labels)
    sure = choose(first_all, second_all, seed=seed).chosen
    half = np.random.default_rng(seed).permutation(200)[:100]

    def called(index: int) -> bool:
        class Said:
            blocking = False
            threshold = 0.5

            def __init__(self, name: str, score: float) -> None:
                self.name, self.score = name, score

            def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
                label = "refusal" if self.score >= 0.5 else "normal"
                return Verdict(label, self.score, self.name)  # type: ignore[arg-type]

        stages = [Said("first", scores[index]), Said("second", second[index])]
        cascade = Cascade(stages, (sure.normal, sure.refusal))
        return cascade.classify(Evidence("text")).label == "refusal"

    missed = false = alone_missed = alone_false = 0
    for index in half.tolist():
        call, own, label = called(index), second[index] >= 0.5, labels[index]
        missed += label == 1 and not call
        alone_missed += label == 1 and not own
        false += label == 0 and call
        alone_false += label == 0 and own
    assert missed <= alone_missed
    assert false <= alone_false


def test_the_command_tells_what_to_write_into_a_policy(tmp_path: Path) -> None:
    """``demur eval --cascade``: the margins, the share passed on, and both qualities."""
    rows = [
        {"id": str(n), "response": text + f" ({n})", "label": label}
        for n, (text, label) in enumerate(
            [("I'm sorry, but I can't help with that.", 1), ("Canberra is the capital.", 0)] * 20
        )
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    both = ["--detector", "embedded", "--detector", "keywords", "--cascade", "--no-prefixes"]
    result = CliRunner().invoke(main, ["eval", str(path), *both])
    assert result.exit_code == 0, result.output
    assert "detector: {sure: {normal: " in result.stdout
    found = json.loads(CliRunner().invoke(main, ["eval", str(path), *both, "--json"]).stdout)
    assert found["cascade"]["kept"] is True
    result = CliRunner().invoke(main, ["eval", str(path), "--cascade"])
    assert result.exit_code == 2
    assert "two detectors" in result.stderr
