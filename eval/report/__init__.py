"""
``python -m eval report``: check results, and turn them into one page, as HTML and as Markdown.

::

    checks      what is wrong with the results, before anything is drawn
    data        the results as one table of scores, a row per run and condition
    published   what others have published, as data
    page        what a page is made of; html and markdown write the same page
    sections    what the page says: summary, scores, generalisation, published, provenance
    cli         all of it, in order

Imports neither PyTorch nor Stable-Baselines3.
"""
