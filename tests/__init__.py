"""A package, as some that are installed bring a `tests` of their own, which would hide a folder."""
