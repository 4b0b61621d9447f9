"""What a cascade is worth on given data: figures, an audit of its promise, a page to show.

`evaluation.evaluate` makes the figures, `text.to_text` and `page.to_html` show them, `explore`
asks whether another stage would pay.
"""
