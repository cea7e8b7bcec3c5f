"""What a sweep runs: cells and the axes of the grid."""
