"""Errors between processes: a pool's worker raises what its parent catches."""

from __future__ import annotations

import copy
import pickle

import pytest

from demur.errors import MissingExtraError, ModelError, RefusedError
from demur.policy import InvalidPolicyError, Problem
from demur.serving.protocols import UnusableError
from demur.testing.scripted import ScriptedError
from demur.vocabulary import Outcome


@pytest.mark.parametrize(
    "error",
    [
        InvalidPolicyError(
            [Problem("p.yaml", ("b",), "m", 3), Problem("p.yaml", ("a", 0), "n", 2)]
        ),
        MissingExtraError("ray", "serve", "demur serve"),
        ModelError("m: cannot be loaded"),
        RefusedError("refused", Outcome("chat", "m", "exhausted", id="x")),
        UnusableError("too many", 413),
        ScriptedError(503),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_copied_and_pickled(error: Exception) -> None:
    """With their messages and all that they hold."""
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), vars(other)) == (str(error), vars(error))
