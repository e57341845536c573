"""What networks lose, on samples held apart from training."""
