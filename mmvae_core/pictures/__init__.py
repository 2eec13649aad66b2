"""Pictures as data, painted for print and for the page, and what moves them."""
