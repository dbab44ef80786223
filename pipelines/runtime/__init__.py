"""The cluster, locks and records of named runs, and sessions that hold both."""
