"""What a study offers to be swept, and what of its grid is left to run. Imports `storage`."""
