"""The embedded preference model: a transformer body under an SNGP head, on torch.  Nothing else in judgeflow imports torch."""
