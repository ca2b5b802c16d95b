"""The embedded default: the deployed template on a laptop, without an account, Docker or a key.

Nothing in the other packages imports this one and nothing here is bundled into a Lambda: locally,
endpoint URLs differ and nothing else does. Start with `python -m local up`.
"""
