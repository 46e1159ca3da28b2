"""Drivers do what a flow asks, and nothing else: ``blocking`` for threads, ``awaiting`` for tasks.

A ``Port`` is what an adapter gives a driver: how to call this SDK's model, open and read its
streams. Drivers add the clock, the detector and the sinks, and turn exceptions into answers.
"""
