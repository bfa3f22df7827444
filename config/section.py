"""What every group of settings is built on."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
"""Where 0 means: no limit."""
Seconds = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
"""So many in the time that the name says; 0: no limit."""


class Section(BaseModel):
    """A group of settings. A misspelt key is refused by name instead of being ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
