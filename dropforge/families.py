"""Which family a language model is of, by its name: a judge may favour its own kind.

Language models rate texts of their own making higher than people do (Panickssery, Bowman and Feng
2024, "LLM evaluators recognize and favor their own generations"), so a verdict on a fine-tune by a
judge of the same family carries a warning.
"""

from __future__ import annotations

import re

_FAMILIES = {
    "gpt": r"gpt|chatgpt|davinci|babbage|o[134](?=$|[-_.:])",
    "claude": r"claude",
    "llama": r"(?:code)?llama|vicuna|alpaca|nemotron",
    "mistral": r"(?:open-)?mi[sx]tral|ministral|magistral|codestral|devstral|pixtral",
    "qwen": r"qwen|qwq|qvq",
    "gemini": r"gemini|gemma",
    "deepseek": r"deepseek",
    "nova": r"nova",
    "titan": r"titan",
    "smollm": r"smollm",
    "phi": r"phi(?=$|[-_.:\d])",
    "command": r"command|aya",
    "grok": r"grok",
    "granite": r"granite",
    "jamba": r"jamba",
    "falcon": r"falcon",
    "olmo": r"olmo",
    "glm": r"(?:chat)?glm",
    "kimi": r"kimi",
    "minimax": r"minimax",
    "yi": r"yi(?=$|[-_.:\d])",
}
_NAMED = re.compile(
    "(?<![a-z0-9])(?:" + "|".join(f"(?P<{name}>{p})" for name, p in _FAMILIES.items()) + ")"
)


def family(model: str) -> str:
    """The family that a model's name tells of, in lower case; "" where it tells of none.

    A fine-tune is of its base's family (`ft:gpt-4.1-mini:acme::x`). The last part of a path counts
    most (`meta-llama/Llama-3.1-8B`), and of two families in one name the first: a DeepSeek model
    distilled into a Llama has learnt to write from DeepSeek.
    """
    parts = _name(model).split("/")
    for part in reversed(parts):
        if found := _NAMED.search(part):
            return str(found.lastgroup)
    return ""


def same_family(judge: str, base: str) -> bool:
    """Whether a judge and the model that was fine-tuned are of one family, or the same model.

    Names that tell of no family are only the same where they are equal.
    """
    ours = family(judge)
    if ours or family(base):
        return ours == family(base)
    return _name(judge) == _name(base)


def _name(model: str) -> str:
    """The base model's part of a name, in lower case, without the marks of a fine-tune."""
    name = model.strip().lower()
    if name.startswith("ft:"):
        name = name.split(":")[1]
    return name.rstrip("/")
