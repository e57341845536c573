"""Keras models: how channels pass through their operations, what each is worth, and the cut itself."""
