"""The command line: dispatch, options, screen and commands."""
