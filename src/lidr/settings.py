"""What all sections of a recipe share: closed, frozen, without credentials; and the types of their fields."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lidr.credentials import find_credential


class HidesValue(ValueError):
    """A value that must not be shown. `field` is its dotted name, if another section found it."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def refuse_credentials(data: object) -> None:
    """Raise HidesValue if a mapping holds a key or a password."""
    if isinstance(data, dict) and (found := find_credential(data)):
        raise HidesValue(_no_credential(found), found)


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _without_credentials(cls, data: object) -> object:
        refuse_credentials(data)
        return data

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_as_number(cls, value: object, info: ValidationInfo) -> object:
        kinds = set(_kinds(cls.model_fields[info.field_name or ""].annotation))
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError("a number is needed")
        return value


def _kinds(annotation: object) -> Iterator[object]:
    """The types that a field takes, without what is inside of lists and mappings."""
    if get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from _kinds(option)
    elif get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    else:
        yield annotation


def _no_credential(field: str) -> str:
    """The message for a field that holds a credential."""
    section, _, name = field.rpartition(".")
    if name == "api_key_env":
        return "holds a key; give the name of the environment variable that holds it, such as OPENAI_API_KEY"
    if name == "launch":
        hint = "write $NAME in its place, and set that environment variable"
    elif "extra_body" in section or name in ("extra_body", "base_url"):
        hint = "put it into an environment variable, and give that one's name in api_key_env beside base_url"
    else:
        hint = "give it in the environment, where the package that needs it looks for it"
    return f"holds a password, key or signature, and a recipe is kept with its results: {hint}"


def _path(text: str) -> str:
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise ValueError("a path or a name is needed, without blanks around it and without control characters")
    return text


def trimmed(text: str) -> str:
    """A text without the blanks and quotes that are copied along with it."""
    return text.strip(" \t\r\n\"'\u00a0\ufeff\u200b")


Trimmed = Annotated[str, BeforeValidator(lambda value: trimmed(value) if isinstance(value, str) else value)]
PathText = Annotated[str, AfterValidator(_path)]
_MOST = 2**31 - 1  # the largest integer that every library below takes
PositiveInt = Annotated[int, Field(gt=0, le=_MOST)]
NonNegativeInt = Annotated[int, Field(ge=0, le=_MOST)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
