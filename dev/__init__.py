"""What made the things that capvec ships: not installed, each part with the command that runs it."""
