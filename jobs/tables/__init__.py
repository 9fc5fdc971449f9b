"""Tables as people read them: on a terminal, in Markdown, LaTeX and CSV."""
