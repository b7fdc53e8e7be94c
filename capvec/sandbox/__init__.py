"""One hardened container a trial: its persistent shell, its images, the verifier, and who clears up."""
