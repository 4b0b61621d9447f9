"""From logits to a decision: `scores` gives a confidence, `decide` judges it, `fit` sets the threshold."""
