"""Structured channel pruning of Keras graphs: graph, importance, selection, surgery, recovery."""
