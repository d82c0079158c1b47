"""Readers and writers of model files: our own format, Hugging Face directories, and GGUF (writer only).

Readers do not build a model: they return a config and a state dict, from which `TransformerLM.from_pretrained` and
`import_huggingface` build it.
"""

from nnscratch.interchange.gguf import export_gguf
from nnscratch.interchange.huggingface import export_huggingface, read_huggingface
from nnscratch.interchange.native import load_untied, read_pretrained, untied_state, write_pretrained

__all__ = [
    "export_gguf",
    "export_huggingface",
    "load_untied",
    "read_huggingface",
    "read_pretrained",
    "untied_state",
    "write_pretrained",
]
