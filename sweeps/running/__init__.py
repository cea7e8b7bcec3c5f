"""Ray Tune runs a plan: session, driver, workers, progress. Imports all other rooms but `cluster`."""
