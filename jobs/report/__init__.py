"""The pages of a report: one site, written as files or served."""
