"""The command `extremal`: one file a group of commands."""
