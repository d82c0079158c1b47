"""What an experiment has shown: statistics, findings in words, tables, pictures, and the report made of them."""
