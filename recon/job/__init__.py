"""From a job file to a folder of results."""
