"""Everything before the first tensor: corpora, vocabularies, word vectors, noise and calibration sets."""
