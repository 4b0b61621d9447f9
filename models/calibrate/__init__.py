"""From logits to a decision, and from labelled samples to a promise about it.

| on the device, without numpy | what |
|---|---|
| `decide` | the rule: confidence against threshold |
| `certificate`, `curve` | what was promised; risk and gain at any threshold |

| where certificates are made | what |
|---|---|
| `scores` | confidence of logits, one sample or many |
| `temperature`, `choose` | temperature and score, from tuning samples |
| `outcomes` | who was wrong, and the losses each promise counts |
| `rules`, `betting`, `groups` | tests that choose a threshold |
| `band`, `gain` | curves: bounds at all thresholds, gain by score |
| `feasibility` | what a promise needs |
| `certify` | all of it: a certificate |
| `overlap`, `exchange` | whether data sets are apart, and alike |
"""
