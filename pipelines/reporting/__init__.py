"""Output for people: the terminal display, figures, and the summary at the end of a run."""
