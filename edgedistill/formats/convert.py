"""From a network to one portable file: a format's converter, run in a child process.

Vendors' converters are native code that may end in a crash; that fails the one file. A child is forked where it can be: it
starts with everything that is loaded here, so what a converter imports is imported before.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path

from edgedistill.base.isolation import CONVERSION, in_child
from edgedistill.base.quiet import quiet_import
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Format, QuantScheme
from edgedistill.formats import format_for
from edgedistill.formats.format import Conversion


def convert(what: Conversion, form: Format, scheme: QuantScheme, folder: Path) -> ExportedModel:
    """The file `folder/model*` of `form` in the precision of `scheme`, made in a child process. Raises UnsupportedError,
    MissingDependencyError, ChildFailure where the converter takes its process down."""
    maker = format_for(form)
    for name in maker.loaded_before(scheme):
        # The converter says what is missing, with the line that installs it.
        with contextlib.suppress(ImportError), quiet_import():
            importlib.import_module(name)
    path = folder / f"model{maker.suffixes[0]}"
    return in_child(f"converting to {form} {scheme.label}", CONVERSION, maker.convert, what, scheme, path)
