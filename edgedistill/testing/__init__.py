"""Conformance suites for those who add to edgedistill: subclass one in your own tests, and pytest runs it."""

from edgedistill.testing.families import FamilyConformance
from edgedistill.testing.runtimes import RuntimeConformance

__all__ = ["FamilyConformance", "RuntimeConformance"]
