"""Conformance suites for those who add to edgedistill: subclass one in your own tests, and pytest runs it."""

from edgedistill.testing.families import FamilyConformance
from edgedistill.testing.formats import FormatConformance
from edgedistill.testing.losses import LossConformance

__all__ = ["FamilyConformance", "FormatConformance", "LossConformance"]
