"""``OUT``: the Parquet of a sweep, its record, its status, its logs. Imports `planning` and `storage`."""
