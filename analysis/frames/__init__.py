"""The Parquet of a sweep as frames, and what tells its cells apart: imports no other room."""
