"""What a person starts: the command line, the demo, explaining one image."""
