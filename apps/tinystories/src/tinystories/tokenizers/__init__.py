"""The experiments on tokenizers: trained on corpora, measured, compared, and told in tables and sentences."""
