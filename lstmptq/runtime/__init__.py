"""What the machine offers: kernel choice, threads, provenance, and locations of files and buckets."""
