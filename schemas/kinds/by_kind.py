"""Models whose fields depend on the kind of the task that they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from schemas.errors import listing
from schemas.kinds import DEFAULT_KIND, KINDS


class ByKind:
    """Annotation of a field whose model is chosen by the value of its key `kind`.

    model_of: from the name of a kind to its model, the same class each time.
    """

    def __init__(self, model_of: Callable[[str], type[BaseModel]]) -> None:
        self._model_of = model_of

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.tagged_union_schema(
            {name: handler.generate_schema(self._model_of(name)) for name in KINDS},
            discriminator=_kind_of,
            custom_error_type="unknown_kind",
            custom_error_message=f"kind must be one of {listing(KINDS)}",
        )


def _kind_of(value: Any) -> object:
    if isinstance(value, Mapping):
        return value.get("kind", DEFAULT_KIND)
    return getattr(value, "kind", DEFAULT_KIND)  # whose model then refuses what is not a section
