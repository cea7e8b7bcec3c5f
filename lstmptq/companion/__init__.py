"""The companion study: ways to compress a BERT emotion classifier and the LSTM classifiers beside it.

A BERT needs the extra ``bert``. The main study imports nothing of this package.
"""
