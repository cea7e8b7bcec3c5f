"""The questions that a user can ask, one per module, with their answers: imports all rooms but `page`."""
