"""The command line: one command a file, put together by ``main``.

What does not live here: anything that a Python user could not do without it.
"""
