"""What the studies compute: one file each, and one card in workers/study_cards.py."""
