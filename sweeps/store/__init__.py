"""``OUT``: the Parquet of a sweep, its record, status and logs. Imports `planning` and `storage`."""
