"""Each study as a test module, inside the package so that `pytest --pyargs capvec -m sweep` works without a clone."""
