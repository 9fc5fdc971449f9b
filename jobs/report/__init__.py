"""What a person looks at after a run: a site of pages, and figures."""
