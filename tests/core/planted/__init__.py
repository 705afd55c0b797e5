"""Faults that tests put into the fold, to see that the reference evaluator finds them."""
