"""A cluster from outside: up, a detached sweep on its head, results back, down."""
