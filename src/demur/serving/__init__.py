"""A detector as a service, for whoever outgrows one machine: Ray Serve's replicas and scaling.

``demur serve`` starts it; ``serve run demur.serving:app policy=policy.yaml replicas=4`` does the
same on a cluster that runs already. It speaks what demur's ``remote`` stage speaks: Text Embeddings
Inference ``POST /predict`` and KServe v2 ``POST /v2/models/NAME/infer``.
"""

# No `from __future__ import annotations`: Ray Serve asks `app`'s annotation for the class that it
# makes of the arguments, and takes a string for none.
from typing import Any

from .settings import ServeSettings


def app(args: ServeSettings) -> Any:
    """The application that ``args`` describe, for ``serve run`` and for Serve's config files."""
    from .application import application

    return application(args)


__all__ = ["ServeSettings", "app"]
