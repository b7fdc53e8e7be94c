"""Tasks in Harbor's folder format: the loader and the bundled tasks (`bundled/`)."""

from capvec.tasks.loader import load_task, load_tasks

__all__ = ["load_task", "load_tasks"]
