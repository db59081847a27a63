"""The right answer to a request, and how it is written down: as terms that Erlang reads."""


def accepted(subject="/CN=www", *names):
    """Accepted, with this subject as text and these alternative names."""
    return ("accepted", subject, list(names))


def refused(*reasons):
    """Refused, with one of these reasons."""
    return ("refused", [f"={reason}" for reason in reasons or ("invalid_argument",)])


def either(*answers):
    """The standards leave it open."""
    return ("either", list(answers))


MALFORMED = refused("invalid_argument")
FORGED = refused("signature_invalid")
UNKNOWN = refused("unsupported")


def term(thing):
    """An atom is written as "=name", an object identifier as a tuple of numbers."""
    if isinstance(thing, tuple) and thing and isinstance(thing[0], str):
        return "{" + ",".join([thing[0], *map(term, thing[1:])]) + "}"
    if isinstance(thing, tuple):
        return "{" + ",".join(map(str, thing)) + "}"
    if isinstance(thing, list):
        return "[" + ",".join(map(term, thing)) + "]"
    if isinstance(thing, str) and thing.startswith("="):
        return thing[1:]
    if isinstance(thing, str):
        thing = thing.encode()
    return "<<" + ",".join(map(str, thing)) + ">>"
