"""Training in worker processes: the loop, the evaluations, and Ray Train around them."""
