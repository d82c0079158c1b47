"""Hash tables and the heap: counts of pre-tokens, indices of pairs, the pair to merge next."""
