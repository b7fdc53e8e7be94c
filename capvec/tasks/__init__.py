"""Tasks in Harbor's folder format: the loader, the bundled tasks (`bundled/`), and the generator of more."""

from capvec.tasks.loader import load_task, load_tasks

__all__ = ["load_task", "load_tasks"]
