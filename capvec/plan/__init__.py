"""What is to run: options, configs and trials, fixed before anything starts."""
