"""The model server of a laptop: SmolLM2-135M behind OpenAI's protocol, really trained and asked."""
