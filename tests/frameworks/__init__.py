"""What frameworks and instrumentations do with a plain client and with a wrapped one.

    python3.11 -m venv VENV
    VENV/bin/pip install -r tests/frameworks/requirements.txt .
    VENV/bin/python -m tests.frameworks [NAME ...]

With ``requirements-next.txt`` it is openai 3, and those that install beside it. The wheel is
installed, not the source, as some look whether a caller is in site-packages.

A case runs against a server on the loopback interface, with a plain client and with a wrapped one:
where the model answers, and where it refuses and a fallback answers. Instead of a refusal the plain
client gets that answer under the fallback's name, as that is what demur is to make of it. Results,
warnings, logs, what an instrumentation recorded and what the server was sent are compared, and that
demur judged each request. Exit status 0 if all is the same but what a module declares in ``KNOWN``.
``first`` says what ``demur.wrap`` makes of a client that an instrumentation was given before.

A module is a framework: its ``PACKAGE`` and its ``CASES``, which take a client, an asynchronous one
where they are coroutine functions, and return what is to be the same. An instrumentation has
``records``, which gives what came out since the last time; ``instrument``, if it is given a client;
and ``begin``, if a run has to be begun.
"""
