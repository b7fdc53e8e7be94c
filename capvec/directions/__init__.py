"""From traces and their residuals to a direction, its ranking and its matched controls; no torch."""
