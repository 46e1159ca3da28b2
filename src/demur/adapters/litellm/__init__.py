"""demur inside LiteLLM: the only folder that imports it.

In a proxy's ``config.yaml``::

    guardrails:
      - guardrail_name: demur
        litellm_params:
          guardrail: demur.adapters.litellm.DemurGuardrail
          mode: [pre_call, post_call]
          default_on: true
          demur: {policy: policy.yaml}

In the SDK: ``litellm.callbacks = [DemurGuardrail(policy="policy.yaml")]``, which sees whole
responses of ``acompletion``; ``Models("policy.yaml")`` has a ``completion`` and an ``acompletion``
of its own, which see all.
"""

from __future__ import annotations

from ...errors import MissingExtraError

try:
    import litellm as _litellm  # noqa: F401 - asked for here, to say what brings it
except ImportError as error:
    raise MissingExtraError("litellm", "litellm", "the LiteLLM guardrail") from error

from .guardrail import DemurGuardrail
from .models import Models

__all__ = ["DemurGuardrail", "Models"]
