"""Steps that are not applied: which, and what is noted down of them."""
