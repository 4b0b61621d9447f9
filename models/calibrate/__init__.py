"""From logits to a decision: `scores` rates, `decide` judges, `fit` sets the threshold."""
