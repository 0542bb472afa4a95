"""What is done to a series before its alignment: screening, leaving out, normalising."""
