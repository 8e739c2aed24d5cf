"""Model formats: a folder each, in which all lies that is known of one. `format_for` finds the object of a format."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from edgedistill.base.errors import InputError
from edgedistill.documents.specs import Format
from edgedistill.formats.format import ModelFormat

ENTRY_POINTS = "edgedistill.formats"
SHIPPED = tuple(form for form in Format if form is not Format.NULL)
"""The formats that users have."""


@cache
def format_for(form: Format) -> ModelFormat:
    """The object of `form`, its files imported now and not before.

    An installed package takes a format over by an entry point of the group `edgedistill.formats` named after it: a subclass
    of ModelFormat without arguments. Raises InputError if two packages claim the same format.
    """
    claims = list(entry_points(group=ENTRY_POINTS, name=form.value))
    if len(claims) > 1:
        owners = ", ".join(sorted(claim.dist.name if claim.dist else claim.value for claim in claims))
        raise InputError(f"several packages provide the format {form}: {owners}", fix="uninstall all but one")
    kind: type[ModelFormat] = claims[0].load() if claims else import_module(f"{__name__}.{form.value}.runtime").FORMAT
    return kind()


def tools_of(form: Format) -> tuple[str, ...]:
    """The packages whose versions files of `form` depend on: its own, and those of the portable file that it compiles."""
    made = format_for(form)
    return tuple(dict.fromkeys((*made.tools, *format_for(made.portable).tools)))


def measured_by_agent(system: str | None = None) -> tuple[Format, ...]:
    """The formats whose files the measuring agent loads: on a `system` of that name, or on any."""
    loaded = tuple(form for form in SHIPPED if format_for(form).on_device is not None)
    return loaded if system is None else tuple(form for form in loaded if system.startswith(format_for(form).system))
