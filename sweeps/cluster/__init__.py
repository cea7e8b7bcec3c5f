"""Bring up a cluster from outside, run a detached sweep on its head node, fetch the results, tear it down."""
