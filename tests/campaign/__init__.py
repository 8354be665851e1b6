"""Bad inputs by the hundred, each with its verdict: `scripts/check_bad_input.py` runs them."""
