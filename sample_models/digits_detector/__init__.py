"""Detect handwritten digits on photographs: network, scenes and training of the sample model."""
