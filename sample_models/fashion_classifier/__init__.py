"""Classify Fashion-MNIST pictures: training of the sample model."""
