"""CLIP, frozen: loading, both towers read step by step, templates, vocabularies. Only this folder knows transformers."""
