"""Random views of a batch: a batch in, a batch out."""
