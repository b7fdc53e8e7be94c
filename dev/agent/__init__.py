"""How the bundled agent was made: demonstrations, training, traces."""
