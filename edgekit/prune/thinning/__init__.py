"""Besides channels: layers as low-rank pairs, and single weights at zero."""
