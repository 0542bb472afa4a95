"""One file a format: how it is written, how it is read."""
