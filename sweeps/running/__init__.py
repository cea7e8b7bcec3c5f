"""Ray Tune runs a plan: the session, the driver's side, the workers, the progress. Imports all others
but `cluster`.
"""
