"""Which LSTM text classifiers survive post-training quantization, and why: the study as a library."""
