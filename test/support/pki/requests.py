"""Makes requests for certificates and writes the right answer to each beside it.

    requests.py DIRECTORY MAKER [--all]

MAKER is `by_hand`, `cryptography`, `openssl`, `certtool`, `certutil` or `keytool`; without --all the slow kinds of keys
are left out. DIRECTORY gets a file for each, and `answers`, a term for each as `file:consult/1` reads it:
{Name, File, {accepted, Subject, Names} | {refused, Reasons} | {either, Answers}}.
"""

import pathlib
import sys

import by_hand
import by_hand_keys
import library
import programs
from answers import term

BY_HAND = [
    by_hand.cut_and_framed,
    by_hand.versions,
    by_hand.subjects,
    by_hand.asking,
    by_hand.names,
    by_hand_keys.keys,
    by_hand_keys.signatures,
    by_hand_keys.texts,
]


def made(maker, folder, everything):
    if maker == "by_hand":
        for group in BY_HAND:
            yield from group()
    elif maker == "cryptography":
        yield from library.requests(everything)
    else:
        yield from getattr(programs, maker)(folder, everything)


def main(directory, maker, *options):
    folder = pathlib.Path(directory)
    work = folder / "work"
    work.mkdir(parents=True)
    with open(folder / "answers", "w") as answers:
        for number, (name, answer, request) in enumerate(made(maker, work, "--all" in options)):
            file = folder / str(number)
            file.write_bytes(request)
            answers.write("{" + f"{term(name)},{term(str(file))},{term(answer)}" + "}.\n")


main(*sys.argv[1:])
