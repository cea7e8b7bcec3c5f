"""The Parquet files of a sweep as frames, and the axes of its cells; imports no other part of analysis."""
