"""Where files are kept: a directory or an object store, behind one interface. Uses `errors`, `processes`."""
