"""The verbs of the command line: each takes its options, calls its room and gives what to show."""
