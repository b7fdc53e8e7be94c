"""Families of shell tasks. The bundled tasks and the bundled agent's demonstrations are instances of them."""

from __future__ import annotations

from dev.tasks.families import data, files, jobs, more, text, transfer  # noqa: F401 (importing them registers the families)
from dev.tasks.families.base import FAMILIES, Family, Instance, Wrong

__all__ = ["FAMILIES", "Family", "Instance", "Wrong"]
