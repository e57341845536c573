"""Train a cut network back: batches, what the unpruned network teaches, losses of labels, checkpoints."""
