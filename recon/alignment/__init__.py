"""Where each map lies on the detector of the model, found from the maps themselves."""
