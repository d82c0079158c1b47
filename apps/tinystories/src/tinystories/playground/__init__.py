"""A web page on which a model writes stories, with the probability and the alternatives of each token."""
