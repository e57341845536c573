"""The builds in a folder: found, listed and compared on a page for this machine's own browser."""
