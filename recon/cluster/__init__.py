"""Many jobs: side by side on one machine, as arrays of a scheduler, as sweeps; it does not know what they compute."""
