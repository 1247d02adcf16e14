"""Tables for the terminal and for Markdown, figures, and pages; import from the modules."""
