"""
``python -m eval ship``: make small, documented agents out of finished results, and check those that are shipped.

::

    trained     a result whose agent may be shipped
    model_zip   the agent's zip without what only its training needed
    run_files   the zoo's files beside it, without places and callbacks
    proof       that the small agent acts as the trained one
    card        the figures of a model card, as data
    games       the scores of the games that its figures are of, and whether fresh ones are like them
    page        the model card and the table of all agents, as Markdown
    folders     which folder an agent goes to
    ship        all of it, in order
    check       fresh games beside the card's own
    cli         the command
"""
