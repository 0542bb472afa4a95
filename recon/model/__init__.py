"""From a series to operator and data term."""
