"""Models that other people trained, out of public packages, through the whole of edgekit."""
