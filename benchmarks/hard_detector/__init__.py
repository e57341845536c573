"""A detector like those people bring: default int8 makes it useless."""
