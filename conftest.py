"""Loads the capvec plugin, so that a clone works before it is installed."""

pytest_plugins = ("capvec.pytest_plugin.early", "capvec.pytest_plugin.plugin")
