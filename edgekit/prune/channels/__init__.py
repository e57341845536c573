"""Which channels of a network belong together, whatever kind of file it is: units, blocks, and how rules note them."""
