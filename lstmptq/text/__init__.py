"""Corpora, vocabularies, word vectors, input noise and calibration sets: all that comes before a tensor."""
