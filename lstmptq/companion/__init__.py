"""The companion study: ways to compress a BERT emotion classifier, beside the LSTM classifiers.

It needs the extra ``bert`` where a BERT is concerned; nothing of the main study imports it.
"""
