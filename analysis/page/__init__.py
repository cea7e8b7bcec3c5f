"""The page that opens offline, its templates beside its code: imports all rooms but `questions`."""
