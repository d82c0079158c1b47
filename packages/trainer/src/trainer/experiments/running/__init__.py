"""Training the runs of an experiment: in processes of their own, on a Ray cluster, and their progress together."""
