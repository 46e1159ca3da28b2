"""What to do about refusals, as one YAML file says it."""

from __future__ import annotations

from ..errors import PolicyError
from .lint import lint
from .loader import check_policy, load_policy, parse_policy
from .outline import json_schema
from .problem import InvalidPolicyError, Problem
from .schema import Policy, Rule

__all__ = [
    "InvalidPolicyError",
    "Policy",
    "PolicyError",
    "Problem",
    "Rule",
    "check_policy",
    "json_schema",
    "lint",
    "load_policy",
    "parse_policy",
]
