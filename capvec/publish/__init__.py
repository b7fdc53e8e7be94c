"""What can be published: a model card, an export, and a model with the steer baked into its weights."""
