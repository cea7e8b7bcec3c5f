"""The machine and its environment: kernel choice, threads, provenance, locations of files and buckets."""
