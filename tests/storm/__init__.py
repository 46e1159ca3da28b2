"""A storm of faults over wrapped clients, every request accounted for.

    python -m tests.storm --requests 100000 --seed 7 --resume storm.json

`scenario` says what happens to a request, `upstream` does it on the server's side, `callers` and
`clients` on the caller's, `oracle` knows what the caller may see, `storm` runs and counts.
"""
