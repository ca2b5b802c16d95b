"""The short judge: names a winner, how sure it is, and why in a sentence."""
