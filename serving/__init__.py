"""The model server a laptop runs: SmolLM2-135M behind OpenAI's protocol, really trained, really asked."""
