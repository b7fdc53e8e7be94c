"""What several tests share: factories, tiny models, real sweeps, a terminal, a browser."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
