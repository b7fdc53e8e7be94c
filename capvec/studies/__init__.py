"""What a mark asks for: the sweep and the calibration, and making their reports again."""
