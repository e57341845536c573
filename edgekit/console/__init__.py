"""Everything that is drawn in a terminal. Decides nothing; results go to stdout, the rest to stderr."""
