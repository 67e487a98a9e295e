# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Names of objects, labels and files drawn into a picture. Any text of a user's may be a name."""

LONGEST = 100


def drawn_name(name: str) -> str:
    r"""The name as matplotlib draws it letter by letter.

    To matplotlib, text between two ``$`` is mathematics, a leading ``_`` hides a legend's entry, and half a character
    (a lone surrogate) is an error.
    """
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    if len(plain) > LONGEST:
        plain = f"{plain[:LONGEST]}..."
    return (" " * plain.startswith("_")) + plain.replace("$", r"\$")
