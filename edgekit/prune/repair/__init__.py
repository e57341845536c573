"""Repair a cut in closed form, without labels and without training."""
