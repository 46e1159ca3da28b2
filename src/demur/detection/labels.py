"""Which of a classifier's labels means refusal, and whether it is used for one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from ..errors import DemurError, ModelError

REFUSAL = "I'm sorry, but I can't help with that request."
ANSWER = "The capital of Australia is Canberra."

_REFUSING = re.compile(r"refus(al|als|e|es|ed|ing)|reject(s|ed|ion|ions|ing)?|declin(e|es|ed|ing)")
_NEGATIONS = frozenset({"non", "no", "not", "none", "never", "without", "un"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def refusal_label_of(model: str, id2label: Mapping[int, str], wanted: str | None = None) -> str:
    """The label that means refusal: the wanted one, else the only one that says so in words."""
    labels = [str(label) for _, label in sorted(id2label.items())]
    if wanted is not None:
        if wanted in labels:
            return wanted
        raise ModelError(f"{model}: has no label {wanted!r}; its labels are {', '.join(labels)}")
    named = [label for label in labels if says_refusal(label)]
    if len(named) == 1:
        return named[0]
    which = "more than one of its labels says" if named else "none of its labels says"
    raise ModelError(
        f"{model}: {which} refusal ({', '.join(labels)}); name the one that does as refusal_label, "
        "or under id2label in the model's config.json"
    )


def says_refusal(label: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(label)]
    return any(_REFUSING.fullmatch(word) for word in words) and not _NEGATIONS & set(words)


def self_test(
    model: str,
    label: str,
    threshold: float,
    scores: Callable[[list[str]], Iterable[tuple[int, float]]],
) -> None:
    """Raises ``ModelError`` where two sentences beyond doubt are judged wrongly, or not at all."""
    try:
        found = dict(scores([REFUSAL, ANSWER]))
    except DemurError:
        raise
    except Exception as error:  # the runtimes' errors share no other base
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ModelError(
            f"{model}: cannot do its self-test: {type(error).__name__}: {reason}; use another "
            "text classifier, or where padding is missed name pad_token_id in its config.json"
        ) from error
    refusal, answer = found[0], found[1]
    if answer < threshold <= refusal:
        return
    raise ModelError(
        f"{model}: fails its self-test: label {label!r} scores {refusal:.3f} on a "
        f"plain refusal and {answer:.3f} on a plain answer, with threshold {threshold:g}; "
        "use a model trained on refusals, another threshold, or name the right refusal_label"
    )
