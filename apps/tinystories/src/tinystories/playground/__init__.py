"""A page on which a model writes, and shows for each token what else it might have written."""
