"""Says on stderr what is being measured, and how long the rest will take."""
import json
import sys
import time


class Progress:
    """Expects of a row what it took in the last run of that kind, and learns from the rows that are done."""

    def __init__(self, path, kind, guesses):
        """guesses: {what is to be done: seconds}, in this order; kind: what makes times comparable."""
        self.path, self.kind = path, kind
        self.known = json.loads(path.read_text()) if path.exists() else {}
        self.last = self.known.get(kind, {})
        self.expected = guesses | {place: self.last[place] for place in guesses if place in self.last}
        self.places = list(guesses)
        self.done, self.began = {}, time.monotonic()

    def left(self):
        """Seconds."""
        pace = sum(self.done.values()) / sum(self.expected[place] for place in self.done) if self.done else 1
        return pace * sum(self.expected[place] for place in self.places[len(self.done):])

    def begin(self):
        spent, number = time.monotonic() - self.began, len(self.done)
        print(f"[{number + 1}/{len(self.places)}] {self.places[number]}; {spent / 60:.1f} min so far, "
              f"about {self.left() / 60:.1f} to go", file=sys.stderr, flush=True)
        self.row_began = time.monotonic()

    def end(self):
        self.done[self.places[len(self.done)]] = time.monotonic() - self.row_began
        self.path.write_text(json.dumps(self.known | {self.kind: self.last | self.done}, indent=1) + "\n")
