"""Hand over of decisions to the executor: paced, in order, tried again."""
