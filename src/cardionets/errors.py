"""The one exception that people see, in a module of its own: a command may start work before it loads more."""

from __future__ import annotations


class StudyError(Exception):
    """A fault the user can mend: the message names the file, the field and the remedy in one sentence per fault."""
