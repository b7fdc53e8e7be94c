"""Charts as values: marks at coordinates, with a title and a description for those who cannot see them."""
