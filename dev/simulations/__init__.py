"""How often the statistics err: simulations behind reports/statistics."""
