"""The thorough judge: compares step by step before it decides. Dearer; for long tickets."""
