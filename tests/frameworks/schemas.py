"""What frameworks are asked to fill: a tool's arguments are a city, too."""

from __future__ import annotations

from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    name: str
    people: int
