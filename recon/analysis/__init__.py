"""What the volumes say, and how well they agree with the data."""
