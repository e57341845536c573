"""Real photographs: blood cells (BCCD), and a detector of 2 to 3 M parameters that pruning is measured on."""
