"""One element of a series: its volume, its strength, its uncertainty."""
