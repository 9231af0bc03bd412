"""Models of Hugging Face transformers: their names, their configurations, and their folders.

Names of others are in this package alone. ``names`` has those of arrays as data, ``arrays`` turns
arrays into each other, ``configuration`` says one shape in either language, ``exchange`` is all of
it for one model, and ``folder`` reads what was published.

References
----------
transformers 5.24, the modules ``configuration_<family>.py`` and ``modeling_<family>.py``.
"""
