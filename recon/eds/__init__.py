"""From raw EDS spectra to one map of counts for each X-ray line."""
