"""A saved Core ML package, computed without Core ML: what to expect of it before there is a Mac or a phone.

`run` reads the package back as its operation graph and computes it operation by operation. Where coremltools can evaluate
an operation itself, it does; the rest is computed here with torch and numpy. Values are rounded to the type that the
program states after every operation (fp16, int8), and compressed weights are expanded as it says. Devices fuse, reorder
and accumulate in other widths, so a result agrees with a device's as two devices agree with one another: it is a
reference, not a measurement.
"""

from edgedistill.formats.coreml.reference.interpreter import run

__all__ = ["run"]
