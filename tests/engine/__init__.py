"""The order of effects, and crashes between them."""
