"""The pytest plugin: options, fixtures, hooks, and the suite of trials."""
