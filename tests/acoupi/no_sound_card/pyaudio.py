"""PyAudio's name alone: acoupi asks for it on import, and the real one needs PortAudio to compile.

Nothing here records, so nothing of it is used. acoupi itself is as its makers publish it.
"""


class PyAudio:
    """The class that acoupi names in the types of its functions."""
