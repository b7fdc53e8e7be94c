"""Where a trial happens: one hardened container for each trial, its persistent shell, and the verifier."""
