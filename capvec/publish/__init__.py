"""What leaves a run folder: a model card, an export, and a model with the steer baked into its weights."""
