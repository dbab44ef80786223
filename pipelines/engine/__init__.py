"""Ray: the one worker function, the trainer around it, the search around both."""
